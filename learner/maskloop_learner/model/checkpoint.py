"""Weights as one safetensors file that says what it is. Loading it runs no code from it.

Towers that do not learn are not in it: the file names them by their digest, and `Bases` keeps them.
"""

import json
from collections.abc import Mapping
from typing import cast, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from maskloop_learner.model.backbones import BackboneSpec, Preprocessing, find_backbone
from maskloop_learner.model.bases import Bases
from maskloop_learner.model.faults import list_faults, say_faults
from maskloop_learner.model.header import ENTRY, FORMAT, CheckpointError, read_meta
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.model.shared import Shelf

__all__ = ["CheckpointError", "load_weights", "read_meta", "save_weights"]


def save_weights(model: MedCLIPSeg, *, meta: Mapping[str, object]) -> bytes:
    """The model as safetensors. `meta` is kept beside the weights as JSON: labels, prompts and the like."""
    tensors = {}
    for name, parameter in stored_parameters(model).items():
        value = parameter.detach().cpu().contiguous()
        # Random rows that never learn are made to fit half precision; it must lose nothing.
        half = value.half()
        exact = not parameter.requires_grad and torch.equal(half.float(), value)
        tensors[name] = half if exact else value
    about = {**meta, "format": FORMAT, "backbone": model.spec.name, "preprocessing": model.preprocessing}
    if model.spec.trains == "adapters":
        about["base"] = model.base
    # One entry: safetensors writes several in random order, and equal weights must be equal bytes.
    data: bytes = save(tensors, metadata={ENTRY: json.dumps(about, sort_keys=True)})
    return data


def stored_parameters(model: MedCLIPSeg) -> dict[str, torch.nn.Parameter]:
    """What a weights file holds: all that learns, and all of a model whose towers may learn."""
    whole = model.spec.trains == "all"
    return {name: p for name, p in model.named_parameters() if whole or not name.startswith("clip.")}


def load_weights(
    data: bytes, *, device: torch.device | str, bases: Bases | None = None, shelf: Shelf | None = None
) -> MedCLIPSeg:
    """The model in eval mode. The same bytes always give the same model, to the bit.

    `bases` keeps the frozen towers. With a `shelf` of the same device the model stands on the towers held there and
    only adapters and head are its own. Raises CheckpointError listing the missing, unknown, mis-shaped and
    non-finite tensors, and BackboneError when the towers are not there.
    """
    model = restore_model(data, bases=bases, shelf=shelf).to(device).eval().requires_grad_(False)
    if shelf is not None:
        shelf.share_rows(model)
    return model


def restore_model(data: bytes, *, bases: Bases | None = None, shelf: Shelf | None = None) -> MedCLIPSeg:
    """The model as it can be trained further, on the CPU or the shelf's device. Raises as `load_weights` does."""
    meta = read_meta(data)
    try:
        spec = find_backbone(str(meta["backbone"]))
        tensors = load(data)
    except (ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"weights cannot be read: {error}") from error
    base = str(meta.get("base", "random:0"))
    if meta.get("preprocessing", spec.preprocessing) not in get_args(Preprocessing):
        raise CheckpointError(f"preprocessing must be one of {get_args(Preprocessing)}, got {meta['preprocessing']!r}")
    if shelf is not None and spec.trains == "adapters":
        model = build_over(shelf, spec, base)
    else:
        model = (bases or Bases(None)).build_named(spec, base)
    model.preprocessing = cast(Preprocessing, meta.get("preprocessing", spec.preprocessing))
    fill_parameters(stored_parameters(model), tensors, what=f"backbone {spec.name!r}")
    model.forget_towers()
    return model


def build_over(shelf: Shelf, spec: BackboneSpec, base: str) -> MedCLIPSeg:
    """A model over held towers whose own parameters are memory that is to be filled."""
    towers = shelf.get(spec, base)
    with torch.device("meta"):
        model = MedCLIPSeg(spec, over=towers)
    return model.to_empty(device=shelf.device)


def fill_parameters(wanted: Mapping[str, torch.nn.Parameter], tensors: Mapping[str, Tensor], *, what: str) -> None:
    """Copy tensors into parameters of the same names; all or, with a CheckpointError that lists the faults, none."""
    faults = list_faults(wanted, tensors)
    if faults:
        raise CheckpointError(f"weights do not fit {what}: {say_faults(faults)}; train the model again")
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(tensors[name])
