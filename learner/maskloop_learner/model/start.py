"""Where a training starts from."""

from typing import Literal

from maskloop_learner.model.backbones import BackboneSpec
from maskloop_learner.model.bases import Bases
from maskloop_learner.model.checkpoint import CheckpointError, restore_model
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.model.shipped import read_manifest, read_weights, start_from

Start = Literal["pretrained", "random"]
"""`pretrained`: the towers' learnt weights, for `nano` the whole network that ships with this package; `random`:
weights drawn from the seed alone, for tests and comparisons."""


def build_start(
    spec: BackboneSpec, *, seed: int, start: Start, bases: Bases | None = None, initial: bytes | None = None
) -> MedCLIPSeg:
    """The model before its first step. `initial`, the weights of an earlier model, go before `start`.

    Raises BackboneError when the towers' weights are not in `bases`, and CheckpointError when `initial` is of another
    backbone, damaged, or has values that are not finite.
    """
    if initial is not None:
        model = restore_model(initial, bases=bases)
        if model.spec.name != spec.name:
            raise CheckpointError(f"the model to start from has backbone {model.spec.name!r}, not {spec.name!r}")
        return model
    if start == "random":
        return MedCLIPSeg(spec, seed=seed)
    if spec.source is None:
        model = start_from(MedCLIPSeg(spec, seed=seed), read_weights())
        model.base = read_manifest()["sha256"]
        return model
    return (bases or Bases(None)).build(spec, seed=seed)
