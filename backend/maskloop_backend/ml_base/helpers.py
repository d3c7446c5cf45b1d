"""The small functions that models of label-studio-ml 2.x import beside the base class."""

import difflib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageOps

DATA_UNDEFINED_NAME = "$undefined$"
"""The data key of a task that was imported as one bare file."""


class TagKeys(NamedTuple):
    """Names of a control tag, its object tag and the task's data key, and the labels."""

    from_name: str
    to_name: str
    value: str
    labels: list[str]


def get_single_tag_keys(parsed_label_config: dict[str, Any], control_type: str, object_type: str) -> TagKeys:
    """The keys of a config with exactly one control tag on one object tag. Raises ValueError for any other."""
    found = [f"{info['type']} {name!r}" for name, info in parsed_label_config.items()]
    if len(found) != 1:
        raise ValueError(f"the label config must have one control tag, it has {len(found)}: {', '.join(found)}")
    name, info = next(iter(parsed_label_config.items()))
    if info["type"] != control_type or [entry["type"] for entry in info["inputs"]] != [object_type]:
        inputs = ", ".join(entry["type"] for entry in info["inputs"])
        raise ValueError(f"this model needs {control_type} on one {object_type}, the config has {found[0]} on {inputs}")
    return TagKeys(name, info["to_name"][0], info["inputs"][0]["value"], list(info["labels"]))


def get_first_tag_keys(
    parsed_label_config: dict[str, Any], control_type: str, object_type: str
) -> tuple[str, dict[str, Any]] | tuple[None, None]:
    """Name and description of the first control tag of this type on an object of that type, or (None, None)."""
    for name, info in parsed_label_config.items():
        if info["type"] == control_type and any(entry["type"] == object_type for entry in info["inputs"]):
            return name, info
    return None, None


def is_skipped(task: dict[str, Any]) -> bool:
    """True when the task's only annotation was skipped or cancelled."""
    annotations = task["annotations"]
    return len(annotations) == 1 and any(annotations[0].get(key) for key in ("skipped", "was_cancelled"))


def get_choice(task: dict[str, Any]) -> str:
    """The first choice of the first region of the first annotation."""
    return str(task["annotations"][0]["result"][0]["value"]["choices"][0])


def get_image_size(path: str | Path) -> tuple[int, int]:
    """Width and height in pixels as a browser shows the image: its EXIF rotation applied."""
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).size


def match_labels(text: str, labels: Sequence[str]) -> list[str]:
    """For every line of `text` the label that reads most like it."""
    return [
        max(labels, key=lambda label: difflib.SequenceMatcher(None, line, label).ratio()) for line in text.splitlines()
    ]


class InMemoryLRUDictCache:
    """Keeps the `capacity` values that were used last."""

    def __init__(self, capacity: int = 1) -> None:
        self.capacity = capacity
        self.cache: OrderedDict[Any, Any] = OrderedDict()

    def __contains__(self, key: Any) -> bool:
        return key in self.cache

    def get(self, key: Any) -> Any:
        """The value, now the last used, or None."""
        if key not in self.cache:
            return None
        self.cache.move_to_end(key)
        return self.cache[key]

    def put(self, key: Any, value: Any) -> None:
        """Keep a value; the one that was not used for longest goes when there is no room."""
        self.cache[key] = value
        self.cache.move_to_end(key)
        while len(self.cache) > self.capacity:
            self.cache.popitem(last=False)
