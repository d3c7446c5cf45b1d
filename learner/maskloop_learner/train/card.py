"""A model's card: what it draws, on what it stands, how it was made and measured, in words for people."""

from collections.abc import Iterator, Mapping
from typing import Any

from maskloop_learner.train.manifests import ModelManifest


def write_card(manifest: ModelManifest) -> str:
    """Markdown. Says only what the manifest says."""
    return "\n".join(_lines(manifest)) + "\n"


def _lines(manifest: ModelManifest) -> Iterator[str]:
    labels = ", ".join(manifest["labels"])
    yield f"# A MedCLIPSeg model for {labels}"
    yield ""
    yield f"Made {manifest['created_at']} by {manifest['made_by']}, in Maskloop {manifest['code']['maskloop']}."
    yield "For research; not a medical device."
    yield ""
    base = manifest["base"]
    stands = "the weights file holds the whole model" if base is None else f"adapters and head over towers {base}"
    yield f"- Backbone: {manifest['backbone']} ({stands})"
    if base is not None and not base.startswith("random:"):
        yield f"- The towers are not in here: `maskloop models fetch {manifest['backbone']}`"
    yield f"- Weights: sha256 {manifest['weights']['digest']}, {manifest['weights']['bytes']} bytes"
    parent, snapshot = manifest["parent"], manifest["snapshot"]
    yield f"- Learnt from: snapshot {snapshot['digest']}" if snapshot else "- Learnt from: not recorded"
    if parent:
        yield f"- The champion when it was made: model {parent['model']} (manifest {parent['manifest'] or 'none'})"
    if manifest.get("reconstructed"):
        yield "- This manifest was written later, from what an earlier release had kept."
    yield ""
    yield from _figures(manifest["metrics"])
    yield "Take it into a project: `maskloop models import PATH --project PROJECT`."


def _figures(metrics: Mapping[str, Any]) -> Iterator[str]:
    dice = {label: side.get("challenger") for label, side in (metrics.get("validation") or {}).items()}
    if any(value is not None for value in dice.values()):
        yield "| label | Dice on its validation images |"
        yield "|---|---|"
        yield from (f"| {label} | {value:.3f} |" for label, value in dice.items() if value is not None)
        yield ""
    if reason := metrics.get("decision"):
        yield f"The gate: {reason}."
        yield ""
