"""Files in the forms that published weights come in, with random weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from maskloop_learner.model.backbones import BACKBONES, BackboneSpec
from maskloop_learner.model.medclipseg import MedCLIPSeg


def random_model(spec: BackboneSpec, seed: int = 5) -> dict[str, Tensor]:
    """A MedCLIPSeg's tensors, none of them at a value that construction gives it."""
    model = MedCLIPSeg(spec, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        if name.startswith(("pvl_adapters", "head")) or p.ndim == 1:
            p.data.add_(0.05 * torch.randn(p.shape, generator=generator))
    return {name: p.detach() for name, p in model.named_parameters()}


def official_names(spec: BackboneSpec, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of the published code: frozen towers included, OpenAI's CLIP twice over."""
    found: dict[str, Tensor] = {}
    for name, x in tensors.items():
        if name.startswith("head."):
            found[name.removeprefix("head.")] = x
        elif not name.startswith("clip."):
            found[name] = x
        elif name == "clip.logit_scale":
            found["logit_scale"] = x
        elif name.startswith("clip.visual."):
            found[f"vision_model.{name.removeprefix('clip.visual.')}"] = x
        elif spec.text == "bert":
            found[f"text_model.{name.removeprefix('clip.text.')}"] = x
        elif not name.startswith("clip.token_embedding."):
            found[f"text_model.{name.removeprefix('clip.')}"] = x
        if spec.text == "clip" and name.startswith("clip."):
            found[f"clip_model.{name.removeprefix('clip.')}"] = x
    return found


def write_official(path: Path, state: dict[str, Tensor], *, best: bool = False) -> Path:
    """A released file: the last epoch's, or the best one's, whose Dice is a numpy scalar."""
    optimizer = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 3e-4}]}
    more: dict[str, Any] = {"best_dice": np.float64(0.8125)} if best else {"best_loss": float("inf")}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": state, "epoch": 99, "optimizer": optimizer, "scheduler": {"last_epoch": 99}, **more}, path)
    return path


def write_vocabulary(path: Path, *, words: int = 30522) -> Path:
    """A vocab.txt as BiomedBERT's is laid out, with a few real words."""
    lines = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "tumor", "in", "the", "breast", "ultra", "##sound", "."]
    lines += [f"[unused{i}]" for i in range(words - len(lines))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


TINY = replace(
    BACKBONES["clip-vit-b16"],
    clip={
        "embed_dim": 32,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 3, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 3},
    },
    fusion=(1, 2),
    adapter_dim=16,
)
"""OpenAI's CLIP but small: what holds for its names and files holds for the real one's."""


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> BackboneSpec:
    """The backbone `clip-vit-b16`, small for this test."""
    monkeypatch.setitem(BACKBONES, "clip-vit-b16", TINY)
    return TINY


@pytest.fixture(scope="module")
def tiny_tensors() -> dict[str, Tensor]:
    """A MedCLIPSeg on it."""
    return random_model(TINY)


@pytest.fixture(scope="module")
def towers(tiny_tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Its towers, under open_clip's names."""
    named = {name.removeprefix("clip."): x for name, x in tiny_tensors.items() if name.startswith("clip.")}
    del named["logit_scale"]
    return named
