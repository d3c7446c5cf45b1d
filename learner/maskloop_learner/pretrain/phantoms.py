"""Phantoms: computed medical images of several modalities, with prompts and the masks these ask for."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from maskloop_learner.pretrain.body import make_abdomen, make_chest, make_radiograph
from maskloop_learner.pretrain.brain import make_head, make_heart
from maskloop_learner.pretrain.colour import make_bowel, make_cells, make_skin, make_tissue
from maskloop_learner.pretrain.shapes import Canvas, Mask, Scene
from maskloop_learner.pretrain.ultrasound import make_breast, make_thyroid
from maskloop_learner.pretrain.words import FINDINGS, usual_prompt, word_prompt

MAKERS: dict[str, Callable[[Canvas, Generator], Scene]] = {
    "breast ultrasound": make_breast,
    "thyroid ultrasound": make_thyroid,
    "T1 MRI": partial(make_head, kind="T1 MRI"),
    "T2 MRI": partial(make_head, kind="T2 MRI"),
    "FLAIR MRI": partial(make_head, kind="FLAIR MRI"),
    "cardiac MRI": make_heart,
    "abdominal CT": make_abdomen,
    "chest CT": make_chest,
    "chest X-ray": make_radiograph,
    "dermoscopy": make_skin,
    "endoscopy": make_bowel,
    "histology": make_tissue,
    "fluorescence": make_cells,
}
"""Modality, a key of `words.IMAGES` -> what makes an image of it."""
SIDES = (104, 152)
"""Shortest and longest side in pixels; the model sees a square, so shapes come out squeezed either way."""
LEAST_AREA = 12
"""Pixels. What is smaller can hardly be seen and is not asked for."""


class Phantom(NamedTuple):
    """An image and what may be asked of it."""

    modality: str
    image: NDArray[np.uint8]
    """RGB [H, W, 3]"""
    questions: list[tuple[str, Mask]]
    """Prompt and mask; an empty mask where the finding is absent. The first is a finding where there is one."""


def make_scene(rng: Generator, modality: str) -> Scene:
    """A random scene of random size. Raises ValueError for an unknown modality."""
    if modality not in MAKERS:
        raise ValueError(f"modality must be one of {', '.join(sorted(MAKERS))}, got {modality!r}")
    height, width = (int(side) for side in rng.integers(SIDES[0], SIDES[1] + 1, 2))
    scene = MAKERS[modality](Canvas(height, width), rng)
    # A structure that other things cover up cannot be asked for; an absent finding can.
    parts = {
        name: mask
        for name, mask in scene.parts.items()
        if mask.sum() >= LEAST_AREA or (name in FINDINGS and not mask.any())
    }
    return Scene(scene.image, parts)


def make_phantom(rng: Generator, modality: str, *, wordy: bool = True) -> Phantom:
    """A random image with one prompt per structure and absent finding, worded in many ways or as usual.

    The same generator state gives the same pixels and words. Prompts say what, never where.
    """
    scene = make_scene(rng, modality)
    names = sorted(scene.parts, key=lambda name: (not scene.parts[name].any(), name not in FINDINGS, name))
    questions = [
        (word_prompt(rng, name, modality) if wordy else usual_prompt(name, modality), scene.parts[name])
        for name in names
    ]
    return Phantom(modality, scene.image, questions)
