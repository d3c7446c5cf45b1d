"""Frozen towers held once in a process, for all models that stand on them."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from maskloop_learner.model.backbones import BackboneSpec
from maskloop_learner.model.bases import Bases
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.model.towers import ImageTower, TextTower


class SharedTowers:
    """The towers of one base on one device, prepared once per precision. No model over them may change them."""

    def __init__(self, spec: BackboneSpec, clip: Any, *, base: str, vocabulary: Path | None) -> None:
        self.spec, self.clip, self.base, self.vocabulary = spec, clip, base, vocabulary
        self._packed: dict[torch.dtype, tuple[ImageTower, TextTower]] = {}
        image, text = self._pack(torch.float32, frozen=False)
        self.widths = image.blocks[0].out.weight.shape[0], text.blocks[0].out.weight.shape[0]
        """Of the image's tokens and the text's."""

    def packed(self, dtype: torch.dtype) -> tuple[ImageTower, TextTower]:
        """Both towers with matrix products in `dtype`."""
        if dtype not in self._packed:
            self._packed[dtype] = self._pack(dtype, frozen=True)
        return self._packed[dtype]

    def tensors(self) -> Iterator[Tensor]:
        """All that is held for them."""
        yield from tensors_of(self.clip)
        for image, text in self._packed.values():
            yield from prepared(image, text)

    def _pack(self, dtype: torch.dtype, *, frozen: bool) -> tuple[ImageTower, TextTower]:
        return (
            ImageTower(self.clip.visual, spec=self.spec, dtype=dtype, frozen=frozen),
            TextTower(self.clip, spec=self.spec, dtype=dtype, frozen=frozen),
        )


class Shelf:
    """The frozen towers that a process holds on one device. Not for use from several threads at once."""

    def __init__(self, bases: Bases | None, *, device: torch.device) -> None:
        self.bases, self.device = bases or Bases(None), device
        self._held: OrderedDict[tuple[str, str], SharedTowers] = OrderedDict()
        self._rows: WeakValueDictionary[tuple[str, str], nn.Parameter] = WeakValueDictionary()

    def get(self, spec: BackboneSpec, base: str) -> SharedTowers:
        """The towers named by `base`, read when they are not held. Raises BackboneError when they are not there."""
        key = spec.name, base
        if key not in self._held:
            model = self.bases.build_named(spec, base)
            clip = model.clip.to(self.device).eval().requires_grad_(False)
            self._held[key] = SharedTowers(spec, clip, base=model.base, vocabulary=model.vocabulary)
        self._held.move_to_end(key)
        return self._held[key]

    def held(self) -> list[SharedTowers]:
        """What is held, the least recently asked for first."""
        return list(self._held.values())

    def drop(self, towers: SharedTowers) -> None:
        """Hold these no longer; models over them keep them."""
        self._held = OrderedDict((key, held) for key, held in self._held.items() if held is not towers)

    def share_rows(self, model: MedCLIPSeg) -> None:
        """Give a model whose towers learn the rows that never do (`spec.frozen`) from the model before it, where they
        are equal to the bit."""
        for name in model.spec.frozen:
            owner, _, last = name.rpartition(".")
            module: nn.Module = model.clip.get_submodule(owner)
            mine: nn.Parameter = getattr(module, last)
            known = self._rows.get((model.spec.name, name))
            if known is not None and torch.equal(known, mine):
                setattr(module, last, known)
            else:
                self._rows[model.spec.name, name] = mine


def tensors_of(module: nn.Module) -> Iterator[Tensor]:
    """A module's parameters and buffers."""
    yield from module.parameters()
    yield from module.buffers()


def prepared(image: ImageTower, text: TextTower) -> Iterator[Tensor]:
    """What towers may hold beside the CLIP they were made from."""
    for block in [*image.blocks, *text.blocks]:
        for layer in (block.qkv, block.out, block.grow, block.shrink):
            yield layer.weight
            if layer.bias is not None:
                yield layer.bias
    yield image.projection


def storages(tensors: Iterable[Tensor]) -> dict[int, int]:
    """Address -> bytes of the memory behind tensors: what several of them share is in it once."""
    found: dict[int, int] = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
    return found
