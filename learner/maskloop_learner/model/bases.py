"""The frozen towers of the published backbones, kept once per installation and named by their digest."""

from pathlib import Path

import torch

from maskloop_learner.model.backbones import BackboneSpec
from maskloop_learner.model.medclipseg import MedCLIPSeg


class BackboneError(RuntimeError):
    """A backbone's weights or vocabulary cannot be had; the message names the command that fetches them."""


class Bases:
    """A folder of backbone weights: <name>/<digest>.safetensors, and <name>/vocab.txt for a BERT."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def build(self, spec: BackboneSpec, *, digest: str | None = None, seed: int = 0) -> MedCLIPSeg:
        """A model on the towers with this digest (None: the ones used last), its adapters and head random from `seed`.

        Raises BackboneError when they are not in the folder.
        """
        raise BackboneError(
            f"the weights of backbone {spec.name!r} are not in {self.folder}; "
            f"fetch them with: maskloop models fetch {spec.name}"
        )

    def load_towers(self, model: MedCLIPSeg, tensors: dict[str, torch.Tensor]) -> None:
        raise NotImplementedError
