"""Nano's first weights as the package ships them: half precision, beside a manifest that says how they came about."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from maskloop_learner.model.medclipseg import MedCLIPSeg

FOLDER = Path(__file__).parent / "weights"
WEIGHTS = FOLDER / "nano.safetensors"
MANIFEST = FOLDER / "nano.json"


class WeightsError(ValueError):
    """Shipped weights that do not fit; the message says what is wrong with them."""


def pack_weights(model: MedCLIPSeg) -> bytes:
    """All parameters in half precision. Raises WeightsError for one that half precision cannot hold."""
    tensors = {}
    for name, parameter in model.named_parameters():
        half = parameter.detach().cpu().half().contiguous()
        if not bool(half.isfinite().all()):
            raise WeightsError(f"{name} has values that are not finite in half precision; train again")
        tensors[name] = half
    data: bytes = save(tensors)
    return data


def ship_weights(data: bytes, manifest: Mapping[str, Any], *, folder: Path) -> None:
    """Write nano.safetensors and nano.json; the manifest gets the weights' size and SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS.name).write_bytes(data)
    about = {**manifest, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / MANIFEST.name).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def read_manifest(folder: Path = FOLDER) -> dict[str, Any]:
    """How the shipped weights were made and what was measured with them."""
    manifest: dict[str, Any] = json.loads((folder / MANIFEST.name).read_text(encoding="utf-8"))
    return manifest


def read_weights(folder: Path = FOLDER) -> dict[str, Tensor]:
    """Parameter name -> float16. Raises WeightsError when the file is not that of the manifest."""
    data = (folder / WEIGHTS.name).read_bytes()
    found, wanted = hashlib.sha256(data).hexdigest(), read_manifest(folder)["sha256"]
    if found != wanted:
        raise WeightsError(
            f"{folder / WEIGHTS.name} has SHA-256 {found}, its manifest says {wanted}; install the package again"
        )
    tensors: dict[str, Tensor] = load(data)
    return tensors


def start_from(model: MedCLIPSeg, tensors: Mapping[str, Tensor]) -> MedCLIPSeg:
    """Give the model these weights, in place. Raises WeightsError for missing, unknown or mis-shaped ones."""
    wanted = dict(model.named_parameters())
    faults = [f"missing {name}" for name in sorted(wanted.keys() - tensors.keys())]
    faults += [f"unknown {name}" for name in sorted(tensors.keys() - wanted.keys())]
    faults += [
        f"{name} of shape {tuple(tensors[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in sorted(wanted.keys() & tensors.keys())
        if tensors[name].shape != wanted[name].shape
    ]
    if faults:
        raise WeightsError(
            f"weights do not fit {model.spec.name!r}: {'; '.join(faults[:5])}; install the package again"
        )
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(tensors[name])
    return model
