"""How far an annotator changed what was drawn already: Dice of each label, and whether nothing was touched."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from maskloop_learner.pool.masks import Mask
from maskloop_learner.train.metrics import check_masks, dice


@dataclass(frozen=True)
class Correction:
    """From the mask that was shown to the one that was submitted, or from one that would have been shown."""

    dice: dict[str, float]
    """Label -> overlap of both, 0..1, of the labels that the model draws and the annotator could draw."""
    unedited: bool
    """Whether every label's mask is the shown one, pixel by pixel."""


def measure_correction(
    shown: Mapping[str, Mask], final: Mapping[str, Mask], *, known: Collection[str] | None
) -> Correction:
    """Compare what was shown with what was submitted; a label without a mask is empty.

    shown: label -> mask that the annotator found, bool H x W; empty masks too, of every label that the model draws.
    final: label -> mask that was submitted. known: labels that the annotator could draw; None: all. Not one pixel may
    differ in what counts as unedited: a mask that nobody touches comes back from Label Studio's page as it went out.
    Raises ValueError for masks of several shapes.
    """
    masks = [*shown.values(), *final.values()]
    for mask in masks[1:]:
        check_masks(mask, masks[0])
    able = {name for name in shown if known is None or name in known}

    def read(side: Mapping[str, Mask], name: str) -> Mask:
        return side[name] if name in side else np.zeros_like(masks[0])

    figures = {name: dice(shown[name], read(final, name)) for name in sorted(able)}
    same = all(np.array_equal(read(shown, name), read(final, name)) for name in able | final.keys())
    return Correction(figures, same)
