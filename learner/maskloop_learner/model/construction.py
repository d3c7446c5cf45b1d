"""A backbone's CLIP as open_clip builds it, and its tokenizer."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from torch import Tensor

from maskloop_learner.model.backbones import BackboneError, BackboneSpec

BERT_BASE = {"model_type": "bert", "vocab_size": 30522}
"""The rest of BiomedBERT's config is what transformers takes for granted: 12 layers of width 768."""


class Tokenizer(Protocol):
    """Prompts in, token ids [P, context] int64 out."""

    def __call__(self, texts: Sequence[str]) -> Tensor: ...


def build_clip(spec: BackboneSpec, *, seed: int) -> Any:
    """The backbone's CLIP, float32 on the CPU, its random weights drawn from `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        clip = CLIP(**spec.clip) if spec.text == "clip" else build_bert_clip(spec)
    with torch.no_grad():
        if spec.text_gain != 1.0:
            for block in clip.transformer.resblocks:
                block.attn.in_proj_weight.mul_(spec.text_gain)
                block.attn.out_proj.weight.mul_(spec.text_gain)
        for name in spec.frozen:
            # Values that half precision holds exactly let a weights file keep them in half the space.
            parameter = clip.get_parameter(name)
            parameter.copy_(parameter.half())
    return clip


def build_bert_clip(spec: BackboneSpec) -> CustomTextCLIP:
    """A CLIP whose text tower is a BERT. open_clip reads its config from a folder; no network is asked."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(BERT_BASE))
        arguments = dict(spec.clip)
        text = {**arguments["text_cfg"], "hf_model_name": folder}
        return CustomTextCLIP(**{**arguments, "text_cfg": text})


def build_tokenizer(spec: BackboneSpec, vocabulary: Path | None = None) -> Tokenizer:
    """The backbone's tokenizer; longer prompts are cut to its context.

    `vocabulary` is the folder with `vocab.txt`, for a BERT. Raises BackboneError when that is missing.
    """
    if spec.text == "clip":
        tokenizer: Tokenizer = SimpleTokenizer(context_length=spec.context)
        return tokenizer
    if vocabulary is None or not (vocabulary / "vocab.txt").is_file():
        raise BackboneError(
            f"backbone {spec.name!r} needs its vocabulary (vocab.txt), which is not in {vocabulary}; "
            f"fetch it with: maskloop models fetch {spec.name}"
        )
    wordpiece: Tokenizer = HFTokenizer(str(vocabulary), context_length=spec.context)
    # The text tower takes id 0 for padding and leaves it out of its attention.
    if wordpiece([""])[0, -1] != 0:
        raise BackboneError(
            f"the vocabulary in {vocabulary} pads with id {int(wordpiece([''])[0, -1])}, not 0: it is another model's; "
            f"fetch the right one with: maskloop models fetch {spec.name}"
        )
    return wordpiece
