"""All that a training does, apart from its images."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace

from maskloop_learner.model.checkpoint import read_meta
from maskloop_learner.model.precision import Precision
from maskloop_learner.model.start import Start
from maskloop_learner.train.augment import Augmentation
from maskloop_learner.train.losses import DiceKind


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """See `train`; all of it but `device`, `checkpoint_steps` and `recompute` determines the result."""

    backbone: str
    labels: list[str]
    prompts: dict[str, str]
    steps: int
    batch: int
    seed: int
    device: str
    checkpoint_steps: int
    augmentation: Augmentation = field(default_factory=Augmentation)
    start: Start = "pretrained"
    learning_rates: tuple[float, float] | None = None
    dice: DiceKind = "image"
    official_preprocessing: bool = False
    precision: Precision = "fp32"
    recompute: bool = False
    prompt_dropout: float = 0.0
    negatives: dict[str, str] = field(default_factory=dict)
    patience: int = 0

    def after(self, warm: "WarmStart | None") -> "Recipe":
        """The recipe for going on from that model: one that is fed as published stays so."""
        if warm is None or read_meta(warm.initial).get("preprocessing") != "official":
            return self
        return replace(self, official_preprocessing=True)

    def determining(self) -> dict[str, object]:
        """What two trainings must share for one to go on with the other's checkpoint."""
        said = asdict(self)
        return {name: said[name] for name in said if name not in ("device", "checkpoint_steps", "recompute")}


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """A training that goes on from an earlier model instead of the base weights."""

    initial: bytes
    """That model's weights."""
    fresh: frozenset[int] | None = None
    """Numbers of the examples that it has not learnt from; None: of none is known whether it has."""
    replay: float = 0.5
    """Share of each batch that is taken from the examples that it has learnt from, 0..1."""
    model_id: int | None = None
    """Its number in the pool, for the record."""


def digest_of(*what: object) -> str:
    """A digest of all that determines a training's result."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
