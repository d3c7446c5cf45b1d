"""What is to be said of a choice as a whole: why it is short, where the strategy fell back, what was passed over."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.select.admission import Admission
from maskloop_learner.select.candidates import Candidates
from maskloop_learner.select.strategies import Strategy


def shortage(size: int, chosen: int, candidates: Candidates, admission: Admission) -> str:
    """Why fewer images were chosen than asked for; "" when there are as many."""
    if chosen == size:
        return ""
    twins = admission.twins.total()
    causes = [
        f"there are {len(candidates):,} candidates" if len(candidates) < size else "",
        f"{twins:,} are nearly the same picture as a chosen one" if twins else "",
        f"{admission.capped:,} are of groups that have as many as may be" if admission.capped else "",
    ]
    return f"{chosen:,} images chosen of {size:,} asked for: " + ", ".join(filter(None, causes))


def remarks(
    candidates: Candidates, rows: Sequence[int], *, strategy: Strategy, score: str, admission: Admission, short: bool
) -> Iterator[str]:
    """Sentences without a capital or a full stop, the weightiest first.

    rows: what the strategy chose, without the lots. score: the name of `Candidates.scores`. short: whether `shortage`
    has told what was passed over.
    """
    mine = np.array(rows, np.int64)
    unscored = np.isnan(candidates.scores)
    if strategy.name == "diverse" and unscored.all():
        yield "no image is scored, so they are spread over all images, not over the most uncertain ones"
    elif "scores" in strategy.needs and unscored.any():
        yield f"{unscored.sum():,} of {_count(len(candidates), 'candidate')} came last, as {score} is not known of them"
    if "embeddings" in strategy.needs and (lost := (~candidates.embedded[mine]).sum()):
        instead = "by their uncertainty" if strategy.name == "diverse" else "by lot"
        yield f"{_count(lost, 'image')} not embedded yet and chosen {instead}, as no other was left"
    if strategy.name == "foreground_random" and (bare := (~_masked(candidates)[mine]).sum()):
        yield f"{_count(bare, 'image')} without a predicted mask chosen, as no other was left"
    if strategy.name == "claspe":
        seen = np.any(candidates.shares > 0, axis=0).tolist()
        empty = [name for name, some in zip(candidates.labels, seen, strict=False) if not some]
        if empty:
            yield f"nothing of {', '.join(map(repr, empty))} is predicted, so its part went to the others"
    if (twins := admission.twins.total()) and not short:
        yield f"{_count(twins, 'image')} passed over as nearly the same picture as a chosen one"
    if admission.capped and not short:
        yield f"{_count(admission.capped, 'image')} passed over, as their group has as many as may be"


def _masked(candidates: Candidates) -> NDArray[np.bool_]:
    return np.asarray((candidates.shares > 0).any(1), np.bool_)  # NaN is not


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
