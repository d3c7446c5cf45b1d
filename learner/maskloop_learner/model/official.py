"""Released MedCLIPSeg checkpoints (arXiv 2602.20423) taken over: adapters and head as a weights file, towers as a base.

A released file is a dict whose `model` is the whole network's state dict, frozen towers and all. Its names are those
of the published code; nothing in it is run.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskloop_learner.model.backbones import BACKBONES, PAPER_REPO, BackboneSpec
from maskloop_learner.model.bases import Bases
from maskloop_learner.model.checkpoint import CheckpointError, fill_parameters, save_weights, stored_parameters
from maskloop_learner.model.faults import list_faults, say_faults
from maskloop_learner.model.files import digest_file
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.model.tower_files import read_file, unwrap

LICENCE = f"see the model card of {PAPER_REPO}"
VARIANTS = {
    "unimedclip": "unimedclip",
    "biomedclip": "biomedclip",
    "pubmedclip": "pubmedclip",
    "clip": "clip-vit-b16",
}
"""Backbone by its name within a released file's name."""
FILE_NAME = re.compile(r"MedCLIPSeg_(?P<variant>[a-z]+)_(?P<vision>ViT-[A-Z]-\d+)_(latest|best_dice)\.pth")
NAMES = {
    "clip": (
        ("vision_model.", "clip.visual."),
        ("clip_model.token_embedding.weight", "clip.token_embedding.weight"),
        ("text_model.", "clip."),
        ("mask_head.", "head.mask_head."),
        ("upscale.", "head.upscale."),
        ("pvl_adapters.", "pvl_adapters."),
    ),
    "bert": (
        ("vision_model.", "clip.visual."),
        ("text_model.", "clip.text."),
        ("mask_head.", "head.mask_head."),
        ("upscale.", "head.upscale."),
        ("pvl_adapters.", "pvl_adapters."),
    ),
}
"""By kind of text tower: beginnings of published names, and ours. The first that fits counts, both ways."""
UNUSED = re.compile(r"logit_scale|clip_model\..*|text_model\.transformer\.(embeddings\.position_ids|pooler\..*)")
"""Duplicates (the text tower holds the same tensors), buffers, and a temperature that no output depends on."""
FIGURES = ("epoch", "best_dice", "best_loss")


@dataclass(frozen=True, kw_only=True)
class Released:
    """A released checkpoint, checked: every tensor is there, has its shape and is finite."""

    spec: BackboneSpec
    towers: dict[str, Tensor]
    """Under open_clip's names, see `Bases.add`."""
    learnt: dict[str, Tensor]
    """Adapters and head, under our names."""
    metrics: dict[str, float | None]
    """What its training recorded; None where that is no finite number (`best_loss` may be infinite)."""
    sha256: str
    """Of the file."""


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A released checkpoint as a weights file."""

    weights: bytes
    manifest: dict[str, Any]
    """Also in the weights: base, source, source_revision, source_sha256, licence, metrics, labels, prompts."""


def name_backbone(file: str) -> BackboneSpec:
    """The backbone that a released file's name tells. Raises CheckpointError when it tells none that is known."""
    found = FILE_NAME.fullmatch(Path(file).name)
    name = VARIANTS.get(found["variant"]) if found else None
    if found is None or name is None or found["vision"] not in ("ViT-B-16", "ViT-B-32"):
        raise CheckpointError(
            f"the file name {Path(file).name!r} does not tell the backbone, as "
            f"MedCLIPSeg_unimedclip_ViT-B-16_latest.pth would; "
            f"name it with --backbone: one of {', '.join(sorted(VARIANTS.values()))}"
        )
    return BACKBONES[name]


def read_released(path: Path, spec: BackboneSpec | None = None) -> Released:
    """A released file of this backbone (None: the one its name tells).

    Raises BackboneError when the file cannot be read, and CheckpointError listing, under the published names, what
    is missing, unknown, mis-shaped or not finite.
    """
    spec = spec or name_backbone(path.name)
    if spec.name not in VARIANTS.values():
        raise CheckpointError(f"backbone must be one of {', '.join(sorted(VARIANTS.values()))}, got {spec.name!r}")
    whole = read_file(path)
    found = {name: x.float() if x.is_floating_point() else x for name, x in unwrap(whole).items()}
    if not any(name.startswith("pvl_adapters.") for name in found):
        raise CheckpointError(
            f"{str(path)!r} is no MedCLIPSeg checkpoint: no tensor is named pvl_adapters.*; it begins "
            f"with {sorted(found)[:3]}. A backbone's own weights: maskloop models fetch {spec.name} --from {path}"
        )
    with torch.device("meta"):
        wanted = {name: p for name, p in MedCLIPSeg(spec).named_parameters() if name != "clip.logit_scale"}
    found = {name: x for name, x in found.items() if ours(name, spec) in wanted or not UNUSED.fullmatch(name)}
    faults = list_faults({published(name, spec): p for name, p in wanted.items()}, found)
    if faults:
        raise CheckpointError(f"{str(path)!r} does not fit MedCLIPSeg on {spec.name!r}: {say_faults(faults)}")
    named = {ours(name, spec): x for name, x in found.items()}
    return Released(
        spec=spec,
        towers={name.removeprefix("clip."): x for name, x in named.items() if name.startswith("clip.")},
        learnt={name: x for name, x in named.items() if not name.startswith("clip.")},
        metrics={key: figure(whole[key]) for key in FIGURES if key in whole},
        sha256=digest_file(path),
    )


def convert(
    released: Released,
    *,
    bases: Bases,
    labels: list[str],
    prompts: Mapping[str, str],
    source: str,
    revision: str | None = None,
) -> Converted:
    """Keep the towers in `bases`, and make a weights file of the rest: the same logits, to the rounding of float32.

    Images are prepared as in its training ("official", see `preprocess.normalise`).
    """
    spec = released.spec
    base = bases.add(
        spec, released.towers, source=source, revision=revision, source_sha256=released.sha256, start=False
    )
    model = bases.build(spec, digest=base)
    fill_parameters(stored_parameters(model), released.learnt, what=f"backbone {spec.name!r}")
    model.preprocessing = "official"
    manifest = {
        "labels": labels,
        "prompts": dict(prompts),
        "source": source,
        "source_revision": revision,
        "source_sha256": released.sha256,
        "licence": LICENCE,
        "metrics": released.metrics,
    }
    weights = save_weights(model, meta=manifest)
    return Converted(weights=weights, manifest=manifest | {"backbone": spec.name, "base": base})


def ours(name: str, spec: BackboneSpec) -> str:
    """A published name as ours; unchanged when it is none."""
    return rename(name, NAMES[spec.text])


def published(name: str, spec: BackboneSpec) -> str:
    """Our name as published."""
    return rename(name, tuple((mine, theirs) for theirs, mine in NAMES[spec.text]))


def rename(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    """`name` with its beginning exchanged by the first pair that fits."""
    for before, after in pairs:
        if name.startswith(before):
            return after + name.removeprefix(before)
    return name


def figure(value: object) -> float | None:
    """A recorded number, from Python, numpy or torch; None when it is not finite."""
    number = float(value)  # type: ignore[arg-type]
    return number if math.isfinite(number) else None
