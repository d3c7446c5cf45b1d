"""The data set card of an export: what is in it, for people and for Hugging Face's `datasets`."""

import json
from collections.abc import Mapping

from maskloop_backend.transfer.folders import Folder
from maskloop_backend.transfer.huggingface import LABELS
from maskloop_backend.transfer.labelled import Facts

FEATURES: dict[str, tuple[str, str]] = {
    "image": ("image", "as it is stored in Label Studio"),
    "masks": ("list: image", "0 outside, 255 inside, of the image's size; one for each of `labels`, in their order"),
    LABELS: ("list: string", "the labels of `masks`; a mask without a pixel says that the label is not in the image"),
    "prompt": ("string", "the text that came with the image, if one did"),
    "width": ("int64", "pixels"),
    "height": ("int64", "pixels"),
    "author": ("string", "who drew the masks"),
    "annotated_at": ("timestamp[s]", "when, in UTC"),
    "task": ("int64", "number of the task in Label Studio"),
    "annotation": ("int64", "number of the annotation in Label Studio"),
}
"""Column -> its type and what it is."""


def write_card(folder: Folder, facts: Facts, counts: Mapping[str, int]) -> None:
    """README.md. counts: split -> number of images."""
    head = ["---", f"pretty_name: {json.dumps(facts.title or f'Project {facts.project}')}"]
    head += ["task_categories:", "- image-segmentation", "configs:", "- config_name: default", "  data_files:"]
    for split in counts:
        head += [f"  - split: {split}", f"    path: data/{split}/**"]
    head += ["dataset_info:", "  features:"]
    for name, (kind, _) in FEATURES.items():
        key, _, inner = kind.rpartition(": ")
        head += [f"  - name: {name}", f"    {key or 'dtype'}: {inner}"]
    lines = [*head, "---", "", f"# {facts.title or f'Project {facts.project}'}", ""]
    lines += [f"Masks drawn by people in Label Studio, project {facts.project}, exported by Maskloop.", ""]
    lines += ["| Split | Images |", "|---|---|", *(f"| {split} | {count} |" for split, count in counts.items()), ""]
    frozen = (
        "Images of `validation` were never learnt from." if facts.frozen else "No split was fixed yet: all is `train`."
    )
    lines += [frozen, "", "| Label | Prompt |", "|---|---|"]
    lines += [f"| {_cell(label)} | {_cell(facts.prompts.get(label, ''))} |" for label in facts.labels]
    lines += ["", "| Column | Type | |", "|---|---|---|"]
    lines += [f"| `{name}` | {kind} | {what} |" for name, (kind, what) in FEATURES.items()]
    lines += [
        "",
        "`manifest.json` has the origin, version and digests of every image and mask; check the files with",
        "",
    ]
    lines += ["```", "sha256sum -c checksums.sha256", "```", "", "Load it with", ""]
    lines += ["```python", "from datasets import load_dataset", "", 'load_dataset("path/to/this/folder")', "```", ""]
    folder.write("README.md", "\n".join(lines).encode())


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
