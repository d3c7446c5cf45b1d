"""Models kept warm in a worker process."""

from collections import OrderedDict
from typing import TYPE_CHECKING, Self, cast

from maskloop_learner.pool.pool import Pool
from maskloop_learner.settings import Settings

if TYPE_CHECKING:
    from maskloop_learner.model.bases import Bases
    from maskloop_learner.model.precision import Precision
    from maskloop_learner.predict.predictor import Predictor


class Predictors:
    """Models kept warm in this process, the least recently used one out first."""

    def __init__(self, *, device: str, bases: "Bases | None" = None, capacity: int = 2) -> None:
        self.device = device
        self.bases = bases
        self.capacity = capacity
        self._warm: OrderedDict[tuple[str, str], Predictor] = OrderedDict()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As an installation's settings have it."""
        from maskloop_learner.model.bases import Bases

        return cls(device=settings.device, bases=Bases(settings.bases_folder))

    def get(self, pool: Pool, weights_digest: str, precision: str = "fp32") -> "Predictor":
        """The predictor of these weights, loaded from the store when it is not warm."""
        from maskloop_learner.predict.predictor import Predictor

        key = weights_digest, precision
        if key not in self._warm:
            self._warm[key] = Predictor(
                weights=pool.store.get("weights", weights_digest),
                device=self.device,
                bases=self.bases,
                precision=cast("Precision", precision),
            )
            while len(self._warm) > self.capacity:
                self._warm.popitem(last=False)
        self._warm.move_to_end(key)
        return self._warm[key]
