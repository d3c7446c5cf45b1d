"""Published weights files of a backbone, in whichever form they come, as tensors with open_clip's names.

Nothing in a file is run: pickles are read with `weights_only=True`, and TorchScript archives are refused.
"""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from maskloop_learner.model.backbones import BackboneError, BackboneSpec
from maskloop_learner.model.construction import build_clip

WRAPPINGS = ("state_dict", "model_state_dict", "model")
"""Keys under which programs keep a state dict among other things."""
NUMBERS: list[Any] = [
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int32, np.int64)),
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]
"""numpy's scalars, as its versions 1 and 2 pickle them: some checkpoints hold their figures as such."""
UNUSED = (
    "logit_scale",
    "logit_bias",
    "input_resolution",
    "context_length",
    "vocab_size",
    "attn_mask",
    "text.transformer.embeddings.position_ids",
    "text.transformer.pooler.dense.weight",
    "text.transformer.pooler.dense.bias",
)
"""In some files beside the towers. MedCLIPSeg has a temperature of its own and reads a BERT at [CLS] directly."""


def read_file(path: Path) -> dict[str, Any]:
    """What a safetensors or torch file holds; tensors are mapped, not copied.

    Raises BackboneError for other files, damaged ones, and those that hold code.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise BackboneError(f"the weights file {str(path)!r} cannot be read: {error.strerror or error}") from error
    if head.startswith(b"version https://"):
        raise BackboneError(
            f"the weights file {str(path)!r} is a Git LFS pointer, not the weights; fetch it with git lfs"
        )
    zipped = zipfile.is_zipfile(path)
    if zipped:
        refuse_script(path)
    try:
        if head[8:9] == b"{":
            return dict(load_file(path))
        with torch.serialization.safe_globals(NUMBERS):
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).strip().split("\n")[0][:300]
        raise BackboneError(
            f"the weights file {str(path)!r} is cut short, of another kind, or holds more than tensors and numbers "
            f"({type(error).__name__}: {reason}); fetch it again, or save its state dict alone"
        ) from error
    if not isinstance(found, dict):
        raise BackboneError(f"the weights file {str(path)!r} must hold a dict of tensors, got a {type(found).__name__}")
    return found


def refuse_script(path: Path) -> None:
    """Raise BackboneError for a TorchScript archive, which is a program."""
    with zipfile.ZipFile(path) as archive:
        scripted = any(name.endswith("/constants.pkl") for name in archive.namelist())
    if scripted:
        raise BackboneError(
            f"the weights file {str(path)!r} is a TorchScript archive, which holds code; OpenAI's own files are such. "
            "The same weights without code come with: maskloop models fetch clip-vit-b16"
        )


def unwrap(found: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a state dict, out of the dict around it and without the `module.` of parallel training."""
    for key in WRAPPINGS:
        if isinstance(found.get(key), Mapping):
            found = found[key]
            break
    tensors = {str(name): x for name, x in found.items() if isinstance(x, Tensor)}
    if tensors and all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): x for name, x in tensors.items()}
    return tensors


def name_towers(spec: BackboneSpec, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The towers under the names that `construction.build_clip` gives them, float32; what no tower uses is left out."""
    named = {}
    for name, x in tensors.items():
        known = name
        if spec.text == "bert" and name.startswith("text_encoder."):
            known = f"text.{name.removeprefix('text_encoder.')}"
        elif spec.text == "clip" and name.startswith("text."):
            known = name.removeprefix("text.")
        if known not in UNUSED:
            named[known] = x.float() if x.is_floating_point() else x
    return named


def tower_shapes(spec: BackboneSpec) -> dict[str, Tensor]:
    """The towers' parameters by name, without memory: for their names and shapes."""
    with torch.device("meta"):
        clip = build_clip(spec, seed=0)
    return {name: x for name, x in clip.named_parameters() if name not in UNUSED}


def read_towers(spec: BackboneSpec, path: Path) -> dict[str, Tensor]:
    """A backbone's published file as named towers, float32. Raises BackboneError when it is no such file."""
    tensors = unwrap(read_file(path))
    if any(name.startswith("pvl_adapters.") for name in tensors):
        raise BackboneError(
            f"the weights file {str(path)!r} is a whole MedCLIPSeg, not a backbone; "
            f"take it over with: maskloop models import {path} --backbone {spec.name} --out FILE"
        )
    return name_towers(spec, tensors)
