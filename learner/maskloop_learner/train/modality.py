"""Which changes an image of a modality may undergo and still be one, and still agree with its prompt."""

import logging
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from maskloop_learner.settings import Modality
from maskloop_learner.train.augment import Augmentation

log = logging.getLogger(__name__)

PRESETS: Mapping[Modality, Augmentation] = MappingProxyType(
    {
        # Small changes that are right for anything: no mirror, no colour.
        "general": Augmentation(),
        # A head is nearly its own mirror image, so the model could learn sides from nothing but the image: leave them.
        # Coils make the gain uneven, and contrast differs among scanners.
        "brain_mri": Augmentation(gamma=0.25, bias_field=0.2),
        # The probe can be turned round, so left and right may change; depth runs down, so top and bottom may not.
        "ultrasound": Augmentation(flip=True, bias_field=0.2, speckle=0.2, noise=0.02),
        # Heart, stomach and liver are where they are; exposure differs.
        "xray": Augmentation(rotation=0.08, gamma=0.3, bias_field=0.08),
        # As with X-rays. Numbers are calibrated: only the window differs a little, and noise with the dose.
        "ct": Augmentation(gamma=0.1, bias_field=0.0, noise=0.04),
        # The camera rolls and there are no sides; its own light is uneven and tinted.
        "endoscopy": Augmentation(rotation=0.5, scale=0.15, flip=True, bias_field=0.2, tint=0.06),
        # No side, no up: any turn and any mirror image is as likely as any other.
        "dermoscopy": Augmentation(
            rotation=math.pi, scale=0.15, flip=True, upend=True, outside="reflection", tint=0.06
        ),
        # As with dermoscopy. Stains differ in strength and shade.
        "microscopy": Augmentation(rotation=math.pi, scale=0.15, flip=True, upend=True, outside="reflection", tint=0.1),
        "none": Augmentation(rotation=0, scale=0, shift=0, gamma=0, bias_field=0, noise=0),
    }
)
"""What `MASKLOOP_AUGMENTATION` names."""

MIRRORED = re.compile(
    r"\b(?:left|right|links?|linke[mnrs]?|rechts?|rechte[mnrs]?|gauches?|droite?s?|izquierd[oa]s?|derech[oa]s?|sinistr[oa]s?|"
    r"destr[oa]s?|(?:\d+|one|two|three|four|five|seven|eight|nine|ten|eleven) ?o['’]?clock|"
    r"RUL|RML|RLL|LUL|LLL|UOQ|UIQ|LOQ|LIQ)(?:most|wards?|-sided|-hand)?\b",
    re.IGNORECASE,
)
"""Words that a mirror image makes wrong: sides, in six languages, hours of a clock, lobes and quadrants."""
TURNED = re.compile(
    r"\b(?:top|bottom|upper|lower|above|below|superior|inferior|oben|unten|obere[rns]?|untere[rns]?)(?:most|ly)?\b",
    re.IGNORECASE,
)
"""Words that an image upside down makes wrong."""


def keep_sides(how: Augmentation, texts: Iterable[str]) -> Augmentation:
    """The augmentation that leaves the places that prompts name where they are, with a line in the log if it differs.

    A side named in any prompt turns mirroring and free rotation off, whatever the modality allows; so does a top or
    bottom with upending and free rotation.
    """
    calm = Augmentation().rotation
    for text in dict.fromkeys(texts):
        side, height = MIRRORED.search(text), TURNED.search(text)
        kept = how
        if side and how.flip:
            kept = replace(kept, flip=False)
        if (side or height) and (how.upend or how.rotation > calm):
            kept = replace(kept, upend=False, rotation=min(how.rotation, calm))
        if kept != how:
            found = side or height
            log.info("augmentation leaves sides as they are: the prompt %r says %r", text, found[0] if found else "")
            how = kept
    return how
