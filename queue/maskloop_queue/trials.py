"""What a round asks of a trained model: its temperature, its answers to the validation set, and its ranking."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from maskloop_learner.pool.images import ImageError, open_image
from maskloop_learner.pool.masks import decode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import sample_images
from maskloop_learner.pool.snapshot import Manifest
from maskloop_learner.prompts.rules import default_prompts, lesser_prompts
from maskloop_learner.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from maskloop_learner.model.shared import Shelf
    from maskloop_learner.predict.agreement import SamplingChoice
    from maskloop_learner.predict.predictor import Predictor
    from maskloop_learner.train.answers import Answer
    from maskloop_learner.train.examples import Example

log = logging.getLogger(__name__)


def load_examples(pool: Pool, manifest: Manifest, split: str) -> "list[Example]":
    """A snapshot's images and masks of one split, out of the store, with what is known of each and its prompts."""
    from maskloop_learner.train.examples import Example

    return [
        Example(
            image=open_image(pool.store.get("images", item["image"])),
            masks={label: decode_mask(pool.store.get("masks", digest)) for label, digest in item["masks"].items()},
            name=f"task {item['ls_task']} ({item['name']})",
            **prompts_of(item, manifest, split),
        )
        for item in manifest["items"]
        if item["split"] == split
    ]


def prompts_of(item: Mapping[str, Any], manifest: Manifest, split: str) -> dict[str, Any]:
    """An item's own prompts, forms of them that say less, and the labels known for it; as `Example` takes them.

    For validation a prompt that tells a location is replaced by the one without. Snapshots of earlier releases have
    neither prompts nor known labels: all labels are asked by the project's prompts, and known.
    """
    own = {label: told["text"] for label, told in (item.get("prompts") or {}).items() if label in manifest["labels"]}
    known = item.get("known")
    found: dict[str, Any] = {"prompts": own or None, "known": None if known is None else frozenset(known)}
    if split == "validation":
        plain = {label: item["prompts"][label].get("plain") or text for label, text in own.items()}
        return found | {"prompts": plain or None}
    forms = {x: lesser_prompts(x, manifest["prompts"], own=own.get(x)) for x in manifest["labels"]}
    return found | {"lesser": {label: texts for label, texts in forms.items() if texts} or None}


class Trial:
    """One round's questions. `tick` is called before each image and may raise to end it."""

    def __init__(
        self, *, pool: Pool, manifest: Manifest, settings: Settings, tick: Callable[[str, int, int], None]
    ) -> None:
        self._pool, self._settings, self._tick = pool, settings, tick
        self._project = manifest["project"]
        self._prompts = default_prompts(manifest["labels"], manifest["prompts"])
        self._shelf: Shelf | None = None
        """Towers that champion and challenger stand on both."""
        self._how: dict[str, Any] = {
            "samples": settings.samples,
            "threshold": settings.threshold,
            "min_speck_area": settings.min_speck_area,
            "max_hole_area": settings.max_hole_area,
        }

    def load(self, weights: bytes) -> "Predictor":
        """A model, ready. Raises CheckpointError or BackboneError when it cannot be used."""
        from maskloop_learner.model.bases import Bases
        from maskloop_learner.model.device import find_device
        from maskloop_learner.model.shared import Shelf
        from maskloop_learner.predict.predictor import Predictor

        settings = self._settings
        if self._shelf is None:
            self._shelf = Shelf(Bases(settings.bases_folder), device=find_device(settings.device))
        return Predictor(
            weights=weights,
            device=settings.device,
            bases=self._shelf.bases,
            precision=settings.precision,
            shelf=self._shelf,
        )

    def fit_temperature(self, predictor: "Predictor", examples: "Sequence[Example]") -> tuple[float, str]:
        """The temperature that fits the validation set best, and why it is that."""
        from maskloop_learner.train.examination import choose_temperature

        return choose_temperature(predictor, examples, self._prompts, tick=self._tick)

    def validate(
        self,
        predictor: "Predictor",
        examples: "Sequence[Example]",
        *,
        temperature: float,
        labels: Sequence[str] | None = None,
        what: str = "validation",
    ) -> "list[Answer]":
        """The model's answers to the examples, as it serves or would serve; labels: those to be asked, None: all."""
        from maskloop_learner.train.answers import collect_answers

        prompts = {label: text for label, text in self._prompts.items() if labels is None or label in labels}
        return collect_answers(
            predictor, examples, prompts, temperature=temperature, how=self._how, tick=self._tick, what=what
        )

    def choose_ranking(self, predictor: "Predictor", *, temperature: float) -> "SamplingChoice | None":
        """How few samples rank the pool's images well; None where that is not to be found out."""
        from maskloop_learner.train.examination import choose_ranking

        settings = self._settings
        if not (settings.calibration_images and settings.cheap_ranking and settings.samples > 1):
            return None
        images = self._sample_images()
        return choose_ranking(predictor, images, self._prompts, temperature=temperature, how=self._how, tick=self._tick)

    def _sample_images(self) -> "list[NDArray[np.uint8]]":
        with self._pool.read() as session:
            digests = sample_images(session, self._project, limit=self._settings.calibration_images)
        images = []
        for digest in digests:
            try:
                images.append(open_image(self._pool.store.get("images", digest)))
            except ImageError as error:
                log.info("image %s is left out of the calibration: %s", digest[:12], error)
        return images
