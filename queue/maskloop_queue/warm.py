"""Models kept warm in a worker process: adapters by the dozen over frozen towers that are held once."""

from collections import OrderedDict
from itertools import chain
from typing import TYPE_CHECKING, Self, cast

from maskloop_learner.pool.pool import Pool
from maskloop_learner.settings import Settings

if TYPE_CHECKING:
    from maskloop_learner.model.backbones import BackboneSpec
    from maskloop_learner.model.bases import Bases
    from maskloop_learner.model.precision import Precision
    from maskloop_learner.model.shared import Shelf
    from maskloop_learner.predict.embedder import Embedder
    from maskloop_learner.predict.predictor import Predictor

MEGABYTE = 1_000_000
DEFAULT = 2048
"""Megabytes."""


class Predictors:
    """Models kept warm in this process within a bound on their memory, the least recently used one out first."""

    def __init__(self, *, device: str, bases: "Bases | None" = None, megabytes: float = DEFAULT) -> None:
        """`megabytes` bounds what all models and their towers hold; the model asked for last always stays."""
        self.device = device
        self.bases = bases
        self.megabytes = megabytes
        self._warm: OrderedDict[tuple[str, str], Predictor] = OrderedDict()
        self._shelf: Shelf | None = None
        self._shipped: Embedder | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As an installation's settings have it."""
        from maskloop_learner.model.bases import Bases

        return cls(device=settings.device, bases=Bases(settings.bases_folder), megabytes=settings.warm_models_mb)

    @property
    def shelf(self) -> "Shelf":
        """The frozen towers that this process holds."""
        if self._shelf is None:
            from maskloop_learner.model.device import find_device
            from maskloop_learner.model.shared import Shelf

            self._shelf = Shelf(self.bases, device=find_device(self.device))
        return self._shelf

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
                shelf=self.shelf,
            )
            # Prepared now, so that their memory counts below.
            self._warm[key].model.towers()
            self._shrink()
        self._warm.move_to_end(key)
        return self._warm[key]

    def embedder(self, spec: "BackboneSpec", base: str | None = None) -> "Embedder":
        """What embeds images with the towers named by `base`; None: with those that new trainings start from.

        Raises BackboneError when they are not there.
        """
        from maskloop_learner.predict.embedder import Embedder

        if spec.trains == "adapters":
            found = Embedder.over(self.shelf, spec, base)
            self._shrink()
            return found
        if self._shipped is None or self._shipped.spec is not spec:
            self._shipped = Embedder.over(self.shelf, spec)
        return self._shipped

    def space(self, spec: "BackboneSpec", base: str | None = None) -> str:
        """The name of the space that `embedder` embeds in; nothing is loaded for it."""
        from maskloop_learner.predict.embedder import name_base, space_of

        return space_of(spec.name, name_base(self.shelf, spec, base))

    def held_bytes(self) -> int:
        """Bytes behind all tensors that are kept, each once however many models share it."""
        from maskloop_learner.model.shared import storages

        held = [towers.tensors() for towers in self.shelf.held()]
        warm = [predictor.tensors() for predictor in self._warm.values()]
        shipped = [self._shipped.tensors()] if self._shipped is not None else []
        return sum(storages(chain(*held, *warm, *shipped)).values())

    def _shrink(self) -> None:
        while self.held_bytes() > self.megabytes * MEGABYTE:
            used = [predictor.model.over for predictor in self._warm.values()]
            # Towers that no warm model stands on were last used before all that do.
            spare = [towers for towers in self.shelf.held() if towers not in used]
            if spare:
                self.shelf.drop(spare[0])
            elif len(self._warm) > 1:
                self._warm.popitem(last=False)
            else:
                return
