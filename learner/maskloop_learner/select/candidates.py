"""What a strategy chooses from, and what it chooses: plain arrays, one row for each unlabelled image."""

from dataclasses import dataclass, field, fields, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Slot = Literal["uncertain", "diverse", "typical", "random"]


def _no_ids() -> NDArray[np.int64]:
    return np.empty(0, np.int64)


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
    ties: NDArray[np.int64] = field(default_factory=_no_ids)
    """[N] what decides between equal scores, ascending. Empty: the ids."""
    labelled_ids: NDArray[np.int64] = field(default_factory=_no_ids)
    """[M] what the caller knows the labelled images by. Empty: they have no names."""
    labels: tuple[str, ...] = ()
    """[L] names of the labels. Empty: they have none."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tie_break(self) -> NDArray[np.int64]:
        """[N] what decides between equal scores."""
        return self.ties if len(self.ties) else self.ids

    @property
    def embedded(self) -> NDArray[np.bool_]:
        """[N] whether an image's embedding is known."""
        if not self.embeddings.shape[1]:
            return np.zeros(len(self), np.bool_)
        return np.asarray(~np.isnan(self.embeddings).any(1), np.bool_)


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
    that is labelled or chosen, `neighbours` (ids of the most alike), `passed_over` (how many nearly equal images were
    left out for it)."""


def in_order(candidates: Candidates) -> Candidates:
    """The candidates by ascending id. Raises ValueError for arrays that do not fit together, for ids that come twice,
    and for infinite numbers."""
    count = len(candidates.ids)
    for name in ("scores", "groups", "shares", "embeddings", "phashes", "thumbnails", "ties"):
        length, optional = len(getattr(candidates, name)), name in ("phashes", "thumbnails", "ties")
        if length != count and not (optional and length == 0):
            raise ValueError(f"candidates have {count} ids, so `{name}` must have {count} rows, got {length}")
    if candidates.shares.ndim != 2 or candidates.embeddings.ndim != 2:
        raise ValueError(
            "shares and embeddings must be tables of N rows, got shapes "
            f"{candidates.shares.shape!r} and {candidates.embeddings.shape!r}"
        )
    if len(candidates.labelled) and candidates.labelled.shape[1:] != candidates.embeddings.shape[1:]:
        raise ValueError(
            f"labelled images are embedded in {candidates.labelled.shape!r} and candidates in "
            f"{candidates.embeddings.shape!r}: they must come from one space"
        )
    for names, columns, many in (
        ("labelled_ids", "labelled", len(candidates.labelled)),
        ("labels", "shares", candidates.shares.shape[1]),
    ):
        if len(given := getattr(candidates, names)) not in (0, many):
            raise ValueError(f"`{names}` must name each of the {many} `{columns}`, or none, got {len(given)} names")
    for name in ("scores", "shares", "embeddings", "labelled"):
        if np.isinf(getattr(candidates, name)).any():
            raise ValueError(f"candidates' `{name}` hold infinite numbers; what is not known is NaN")
    if np.isnan(candidates.labelled).any():
        raise ValueError("embeddings of labelled images hold NaN; leave out those that are not embedded")
    order = np.argsort(candidates.ids, kind="stable")
    if (np.diff(candidates.ids[order]) == 0).any():
        twice = candidates.ids[order][:-1][np.diff(candidates.ids[order]) == 0]
        raise ValueError(f"candidate {int(twice[0])!r} is there twice; every image may be a candidate once")
    if not len(candidates.labelled):
        candidates = replace(candidates, labelled=np.empty((0, candidates.embeddings.shape[1]), np.float32))
    return candidates if (np.diff(candidates.ids) > 0).all() else take(candidates, order)


def take(candidates: Candidates, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Candidates:
    """These rows of the candidates, in this order. rows: numbers, or bool [N]."""
    rows = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
    changed: dict[str, object] = {}
    for each in fields(candidates):
        value = getattr(candidates, each.name)
        if each.name in ("labelled", "labelled_ids", "labels") or len(value) == 0:
            continue
        changed[each.name] = [value[row] for row in rows] if isinstance(value, list) else value[rows]
    return replace(candidates, **changed)  # type: ignore[arg-type]
