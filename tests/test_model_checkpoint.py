"""Weights files: exact, small, and refused with a list of what is wrong in them."""

import json

import pytest
import torch
from safetensors.torch import load, save

from maskloop_learner.model.backbones import BACKBONES
from maskloop_learner.model.checkpoint import CheckpointError, load_weights, read_meta, save_weights
from maskloop_learner.model.medclipseg import MedCLIPSeg

META = {"labels": ["White matter"], "prompts": {"White matter": "white matter"}}


@pytest.fixture(scope="module")
def model() -> MedCLIPSeg:
    return MedCLIPSeg(BACKBONES["nano"], seed=4)


@pytest.fixture(scope="module")
def weights(model: MedCLIPSeg) -> bytes:
    return save_weights(model, meta=META)


def altered(weights: bytes, change: dict[str, torch.Tensor | None], **meta: str) -> bytes:
    """The file with some tensors replaced (None: removed) and other metadata."""
    tensors = {name: x for name, x in (load(weights) | change).items() if x is not None}
    data: bytes = save(tensors, metadata={"maskloop": json.dumps(read_meta(weights) | meta)})
    return data


def test_round_trip_is_exact_small_and_says_what_it_is(model: MedCLIPSeg, weights: bytes) -> None:
    loaded = load_weights(weights, device="cpu")
    for (name, a), (_, b) in zip(model.named_parameters(), loaded.named_parameters(), strict=True):
        assert torch.equal(a, b), name
        assert b.dtype == torch.float32
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert read_meta(weights) == META | {
        "format": "maskloop-medclipseg/1",
        "backbone": "nano",
        "preprocessing": "local",
    }
    assert len(weights) < 10e6  # the word table in half precision


def test_saving_what_was_loaded_gives_the_same_bytes(model: MedCLIPSeg, weights: bytes) -> None:
    again = MedCLIPSeg(BACKBONES["nano"])
    again.load_state_dict(load_weights(weights, device="cpu").state_dict())
    assert save_weights(again, meta=META) == weights


def test_missing_unknown_mis_shaped_and_non_finite_tensors_are_all_listed(weights: bytes) -> None:
    poisoned = load(weights)["head.mask_head.2.bias"]
    poisoned[3] = float("nan")
    data = altered(
        weights,
        {
            "head.mask_head.0.bias": None,
            "head.extra": torch.zeros(1),
            "clip.ln_final.weight": torch.zeros(7),
            "head.mask_head.2.bias": poisoned,
            "clip.ln_final.bias": torch.zeros(64, dtype=torch.int32),
        },
    )
    with pytest.raises(CheckpointError) as caught:
        load_weights(data, device="cpu")
    for part in (
        "missing head.mask_head.0.bias",
        "unknown head.extra",
        "clip.ln_final.weight has shape (7,), not (64,)",
        "head.mask_head.2.bias has values that are not finite",
        "clip.ln_final.bias has type torch.int32",
    ):
        assert part in str(caught.value)


def test_a_long_list_of_faults_is_cut(weights: bytes) -> None:
    names = [name for name in load(weights) if name.startswith("clip.visual")]
    with pytest.raises(CheckpointError, match=f"and {len(names) - 5} more"):
        load_weights(altered(weights, dict.fromkeys(names)), device="cpu")


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 a zip archive, say", b"\xff" * 64])
def test_other_files_are_refused(damage: bytes) -> None:
    with pytest.raises(CheckpointError):
        load_weights(damage, device="cpu")


def test_cut_short_foreign_and_newer_files_are_refused(weights: bytes) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_weights(weights[:-100], device="cpu")
    with pytest.raises(CheckpointError, match="backbone must be one of"):
        load_weights(altered(weights, {}, backbone="huge"), device="cpu")
    with pytest.raises(CheckpointError, match="maskloop-medclipseg/9"):
        load_weights(altered(weights, {}, format="maskloop-medclipseg/9"), device="cpu")
    plain: bytes = save({"x": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="not a Maskloop safetensors file"):
        load_weights(plain, device="cpu")
