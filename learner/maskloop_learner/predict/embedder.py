"""An image as one vector: what a frozen image tower, without adapters, sees in it on average."""

from collections.abc import Iterator
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from maskloop_learner.model.backbones import BackboneSpec
from maskloop_learner.model.preprocess import prepare_image
from maskloop_learner.model.shared import Shelf
from maskloop_learner.model.shipped import read_manifest
from maskloop_learner.model.start import build_start
from maskloop_learner.model.towers import ImageTower

BASE_CHARS = 12


class Embedder:
    """The image tower of one base, in float32. Not for use from several threads at once.

    Of `nano`, whose towers learn, it is the one that ships with the package: vectors of images that were embedded
    before and after a training can be compared.
    """

    def __init__(self, spec: BackboneSpec, tower: ImageTower, *, base: str, device: torch.device) -> None:
        self.spec, self.space, self.device = spec, space_of(spec.name, base), device
        self._tower = tower

    @classmethod
    def over(cls, shelf: Shelf, spec: BackboneSpec, base: str | None = None) -> Self:
        """On the towers named by `base` (None: those that new trainings start from), which the shelf holds.

        Raises BackboneError when they are not there.
        """
        name = name_base(shelf, spec, base)
        if spec.trains == "adapters":
            return cls(spec, shelf.get(spec, name).packed(torch.float32)[0], base=name, device=shelf.device)
        model = build_start(spec, seed=0, start="pretrained").to(shelf.device).eval().requires_grad_(False)
        return cls(spec, model.towers()[0], base=name, device=shelf.device)

    def embed(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """[D] of length 1 for an RGB image [H, W, 3] uint8: the mean of the patch features, D as the tower projects.

        It depends on the image alone, whatever was embedded before. Raises ValueError for an image of another kind.
        """
        square = prepare_image(image, self.spec.image_size, self.spec.preprocessing)
        with torch.inference_mode():
            return pool_patches(self.look(square.to(self.device)))[0].cpu().numpy()

    def look(self, images: Tensor) -> Tensor:
        """[B, 3, size, size] as `prepare_image` makes them -> patch features [B, patches, D]."""
        tokens = self._tower.embed(images)
        for i in range(len(self._tower.blocks) - 1):
            tokens = self._tower.step(i, tokens)
        return self._tower.read(tokens)

    def tensors(self) -> Iterator[Tensor]:
        """What is held for it, or with others."""
        for block in self._tower.blocks:
            for layer in (block.qkv, block.out, block.grow, block.shrink):
                yield layer.weight
        yield self._tower.projection


def pool_patches(patches: Tensor) -> Tensor:
    """[B, patches, D] -> [B, D] of length 1."""
    return F.normalize(patches.mean(1), dim=-1)


def name_base(shelf: Shelf, spec: BackboneSpec, base: str | None = None) -> str:
    """The name of the towers: `base`, or of those that new trainings start from. Raises BackboneError without any."""
    if spec.trains == "all":
        return str(read_manifest()["sha256"])
    return base or shelf.bases.find(spec).stem


def space_of(backbone: str, base: str) -> str:
    """The name of the space in which such vectors lie: the backbone's and the beginning of its towers' digest."""
    return f"{backbone}-{base[:BASE_CHARS]}"
