"""How a batch is to be made up, whatever the strategy."""

from dataclasses import dataclass

from maskloop_learner.predict.aggregate import AGGREGATIONS, MEASURES

DEFAULT_SCORE = "predictive_entropy/mean"
LEAST_BETA, MOST_BETA = 1.0, 100.0
"""First and last of the schedule (nnActive's exponential schedule, arXiv 2601.13677)."""


class ChoosingError(ValueError):
    """A batch cannot be chosen as asked; the message says why and what to do."""


def check_score(score: str) -> None:
    """Raise ChoosingError for a name that no stored score has."""
    measure, _, aggregation = score.partition("/")
    if measure not in MEASURES or aggregation not in AGGREGATIONS:
        raise ChoosingError(
            f"the score must be {'|'.join(MEASURES)}, a slash, and {'|'.join(AGGREGATIONS)}; got {score!r}"
        )


@dataclass(frozen=True, kw_only=True)
class Options:
    """All of a batch but its strategy, size and seed. Raises ChoosingError for values out of range."""

    random_share: float = 0.1
    """Share of the batch, 0..1, that is drawn by lot from all candidates."""
    group_cap: int | None = None
    """Most images of one group (a patient, a video) in the batch; None: any number."""
    keep_duplicates: bool = False
    """Keep images that are nearly the same picture as one that is chosen already."""
    beta: float | None = None
    """Of `power` and `claspe`: 0 draws by lot, infinity ranks. None: the schedule's, by `round_number`."""
    round_number: int = 1
    """Which choice this is, from 1: early ones are noisier."""
    rounds: int = 5
    """How many rounds the schedule takes from its first beta to its last."""
    prefilter: int = 5
    """Of `diverse`: it spreads over so many times as many of the most uncertain images as are wanted."""
    stratified_share: float = 0.66
    """Of `claspe`: share of the batch, 0..1, that is dealt out over the predicted labels."""
    score: str | None = None
    """What `Candidates.scores` holds, measure/aggregation, for the words of the reasons. None: what the strategy is
    meant to rank by."""

    def __post_init__(self) -> None:
        for name in ("random_share", "stratified_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ChoosingError(f"{name} must be between 0 and 1, got {getattr(self, name)!r}")
        if self.group_cap is not None and self.group_cap < 1:
            raise ChoosingError(f"group_cap must be 1 or more images of a group, or None, got {self.group_cap!r}")
        if self.beta is not None and not self.beta >= 0:
            raise ChoosingError(f"beta must be 0 or more, or None for the schedule's, got {self.beta!r}")
        for name in ("round_number", "rounds", "prefilter"):
            if getattr(self, name) < 1:
                raise ChoosingError(f"{name} must be 1 or more, got {getattr(self, name)!r}")

    @property
    def beta_now(self) -> float:
        """The inverse strength of the noise in this round: what was given, else 1 growing to 100 exponentially."""
        if self.beta is not None:
            return self.beta
        if self.rounds == 1:
            return LEAST_BETA
        done = min(self.round_number - 1, self.rounds - 1) / (self.rounds - 1)
        return float(LEAST_BETA * (MOST_BETA / LEAST_BETA) ** done)
