"""Why an image was chosen, in words and figures."""

from collections.abc import Mapping

import numpy as np

from maskloop_learner.select.candidates import Candidates, Pick
from maskloop_learner.select.options import DEFAULT_SCORE
from maskloop_learner.select.proposals import Figures, Proposal, most_first

NEIGHBOURS = 3


class Reasons:
    """Explains the picks of one batch, in the order in which they were chosen: each lies next to those before it."""

    def __init__(self, candidates: Candidates, *, score: str, size: int, twins: Mapping[int, int]) -> None:
        """score: the name of `Candidates.scores`. size: of the batch. twins: row -> how many nearly equal pictures
        were left out for it."""
        self._candidates, self._twins, self._score = candidates, twins, score
        order = most_first(candidates.scores, candidates.tie_break)
        self._ranks = np.empty(len(candidates), np.int64)
        self._ranks[order] = np.arange(1, len(candidates) + 1)
        self._scored = int((~np.isnan(candidates.scores)).sum())
        self._count = len(candidates.labelled)
        self._around = np.empty((self._count + size, candidates.embeddings.shape[1]), np.float32)
        self._around[: self._count] = candidates.labelled
        self._names: list[int | None] = [*candidates.labelled_ids.tolist()] or [None] * self._count

    def explain(self, proposal: Proposal) -> Pick:
        """The pick, with its place in the ranking and what it lies next to."""
        row, figures = proposal.row, dict(proposal.figures)
        words = [proposal.words] if proposal.words else []
        if not np.isnan(self._candidates.scores[row]):
            figures |= {"rank": int(self._ranks[row]), "of": self._scored}
            words.append(self._place(row))
        elif self._scored:
            words.append("not scored yet")
        if near := self._neighbours(row):
            figures |= near
            words.append(f"{near['distance']:.2f} from the nearest labelled or chosen image")
        if passed := self._twins.get(row, 0):
            figures["passed_over"] = passed
            words.append(f"{passed:,} nearly equal passed over")
        return Pick(
            id=int(self._candidates.ids[row]),
            slot=proposal.slot,
            score=proposal.score,
            reason="; ".join(words) or "next in line",
            figures=figures,
        )

    def _place(self, row: int) -> str:
        rank, score = int(self._ranks[row]), float(self._candidates.scores[row])
        superlative = "most uncertain" if self._score == DEFAULT_SCORE else f"highest {self._score}"
        nth = superlative if rank == 1 else f"{ordinal(rank)} {superlative}"
        return f"{nth} of {self._scored:,} ({score:.3f})"

    def _neighbours(self, row: int) -> Figures:
        here, around = self._candidates.embeddings[row], self._around[: self._count]
        if not here.size or np.isnan(here).any():
            return {}
        found: Figures = {}
        if self._count:
            near = np.argsort(-np.einsum("nd,d->n", around, here), kind="stable")[:NEIGHBOURS]
            # Exactly of these few only: of all, the products are faster.
            exact = np.sqrt(np.square(around[near].astype(np.float64) - here).sum(1))
            near = near[np.argsort(exact, kind="stable")]
            known = [name for at in near.tolist() if (name := self._names[at]) is not None]
            found = {"distance": round(float(exact.min()), 4), "neighbours": known}
        self._around[self._count] = here
        self._names.append(int(self._candidates.ids[row]))
        self._count += 1
        return found


def ordinal(number: int) -> str:
    """1 -> "1st", 1012 -> "1,012th"."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in (11, 12, 13) else "th"
    return f"{number:,}{ending}"
