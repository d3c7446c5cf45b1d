"""What a strategy chooses from, and what it chooses: plain arrays, one row for each unlabelled image."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Slot = Literal["uncertain", "diverse", "typical", "random"]


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """N unlabelled images that may be chosen: no failed, skipped or deleted one is among them.

    Rows come in the order of `ids`, ascending, so that ties fall the same way whoever asks. What is not known is NaN
    (scores, shares, embeddings) or -1 (groups): such images come last where a strategy needs the number.
    """

    ids: NDArray[np.int64]
    """[N] what the caller knows an image by, distinct, ascending."""
    scores: NDArray[np.float64]
    """[N] the score to rank by, the larger the sooner; for the default, the mean predictive entropy, 0..1."""
    groups: NDArray[np.int64]
    """[N] number of the patient, case or video that an image belongs to; -1: a group of its own."""
    shares: NDArray[np.float64]
    """[N, L] share of the image that is predicted to belong to each of L labels, 0..1."""
    embeddings: NDArray[np.float32]
    """[N, D] of length 1; a row of NaN where there is none. D is 0 where nothing is embedded."""
    labelled: NDArray[np.float32]
    """[M, D] embeddings of the images that are labelled already."""
    phashes: list[str | None] = field(default_factory=list)
    """[N] perceptual hashes, 16 hex digits, see `pool.looks`; "" or None where an image has none. Empty: none known."""
    thumbnails: list[str | None] = field(default_factory=list)
    """[N] see `pool.looks.Look`. Empty: none known."""


@dataclass(frozen=True, kw_only=True)
class Pick:
    """An image that was chosen."""

    id: int
    """Of `Candidates.ids`."""
    slot: Slot
    """What it was chosen for."""
    score: float | None
    """What the strategy ranked it by; None where it drew lots."""
    reason: str
    """In words and figures, one line, for a project lead: "3rd most uncertain of 9,812 (0.412)"."""
    figures: dict[str, float | int | str | list[int]] = field(default_factory=dict)
    """The reason as numbers: `rank` among the candidates (from 1), `of` (how many), `distance` to the nearest image
    that is labelled or chosen, `neighbours` (ids of the most alike)."""
