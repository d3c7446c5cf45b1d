"""Reads a label config: which tag is served, or why none can be."""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from maskloop_backend.labelstudio.controls import Control as Tag
from maskloop_backend.labelstudio.controls import Interface

LARGEST = 1_000_000
DEEPEST = 100
DATA_KEY = re.compile(r"\$([^\s$.\[\]{}()/\\]+)")
OTHER_OBJECTS = ["video", "audio", "paragraphs", "text", "hypertext", "timeseries", "table", "pdf", "list", "chat"]
OTHER_MASKS = {
    "bitmasklabels": "BitmaskLabels",
    "polygonlabels": "PolygonLabels",
    "rectanglelabels": "RectangleLabels",
    "ellipselabels": "EllipseLabels",
    "keypointlabels": "KeyPointLabels",
    "vectorlabels": "VectorLabels",
    "brush": "Brush (with its labels in a tag of their own)",
}
EXAMPLE = (
    '<View><Image name="image" value="$image"/><BrushLabels name="mask" toName="image">'
    '<Label value="Tumor"/></BrushLabels></View>'
)


class ConfigError(ValueError):
    """A label config that cannot be served; the message says why and what to change."""


@dataclass(frozen=True)
class Control:
    """What is served: BrushLabels `from_name` on the image `to_name`, whose address is in task.data[`data_key`]."""

    from_name: str
    to_name: str
    data_key: str
    labels: list[str]

    def as_json(self) -> dict[str, Any]:
        """The same as plain data, as the pool keeps it."""
        return asdict(self)


def read_control(label_config: str) -> Control:
    """Find the one BrushLabels on the one Image of a label config. Tag names may be in any case.

    A label goes by its alias where it has one, as in Label Studio's results. Other tags (choices, texts) may be
    there and are left alone. Raises ConfigError.
    """
    root = _parse(label_config)
    brushes = _tags(root, ["brushlabels"])
    images = _tags(root, ["image"])
    if not brushes:
        others = sorted({OTHER_MASKS[tag.tag] for tag in root.iter() if tag.tag in OTHER_MASKS})
        instead = f" It has {', '.join(others)}, which Maskloop does not serve yet." if others else ""
        raise ConfigError(f"The label config has no BrushLabels.{instead} An example: {EXAMPLE}")
    if len(brushes) > 1:
        names = ", ".join(tag.get("name") or "without a name" for tag in brushes)
        raise ConfigError(
            f"The label config has {len(brushes)} BrushLabels ({names}). Keep one, with all labels in it."
        )
    brush = brushes[0]
    from_name, to_name = (brush.get("name") or "").strip(), (brush.get("toname") or "").strip()
    if not from_name or not to_name:
        raise ConfigError("BrushLabels lacks its name or its toName. Give it both.")
    if not images:
        others = sorted({tag.tag for tag in root.iter() if tag.tag in OTHER_OBJECTS})
        shown = f" It shows {', '.join(others)}." if others else ""
        raise ConfigError(f"The label config has no Image.{shown} Maskloop serves masks on still images only.")
    if len(images) > 1:
        raise ConfigError(f"The label config has {len(images)} Image tags. Keep one: a task is one image.")
    image = images[0]
    if to_name != (image.get("name") or "").strip():
        raise ConfigError(
            f"BrushLabels {from_name!r} has toName={to_name!r}, but the Image is called {image.get('name')!r}. "
            "Make them equal."
        )
    return Control(from_name, to_name, _data_key(image), _labels(brush, from_name))


def read_interface(label_config: str) -> Interface:
    """Temporary."""
    old = read_control(label_config)
    return Interface((Tag("brush", old.from_name, old.to_name, old.data_key, tuple(old.labels)),))


def _data_key(image: Element) -> str:
    if image.get("valuelist"):
        raise ConfigError("The Image has a valueList (several pages). Maskloop serves one image per task: use value.")
    value = (image.get("value") or "").strip()
    key = DATA_KEY.fullmatch(value)
    if value == "$undefined$" or not key:
        raise ConfigError(
            f'The Image has value={value!r}, which names no field of a task. Use value="$image", and import tasks '
            'as {"image": "<address>"}.'
        )
    return key[1]


def _labels(brush: Element, from_name: str) -> list[str]:
    if (brush.get("value") or "").strip():
        raise ConfigError(
            f"BrushLabels {from_name!r} takes its labels from the tasks (value={brush.get('value')!r}). "
            "Write the labels into the label config: the model learns a fixed set."
        )
    labels = [tag.get("alias") or tag.get("value") or "" for tag in _tags(brush, ["label"])]
    if not labels:
        raise ConfigError(f"BrushLabels {from_name!r} has no Label. Add at least one.")
    if not all(label.strip() for label in labels):
        raise ConfigError(f"BrushLabels {from_name!r} has a Label without a value. Name it.")
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ConfigError(f"BrushLabels {from_name!r} has the label {twice[0]!r} more than once. Names must differ.")
    return labels


def _tags(root: Element, names: Iterable[str]) -> list[Element]:
    return [tag for tag in root.iter() if tag.tag in names]


def _parse(label_config: str) -> Element:
    """The tree with names of tags and attributes in lower case. No document type: nothing is expanded or loaded."""
    if len(label_config) > LARGEST:
        raise ConfigError(f"The label config has {len(label_config)} characters; more than {LARGEST} are refused.")
    builder = TreeBuilder()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise ConfigError(f"The label config is nested deeper than {DEEPEST} tags.")
        builder.start(tag.lower(), {name.lower(): value for name, value in attributes.items()})

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag.lower())

    def refuse(*_: object) -> None:
        raise ConfigError("The label config has a document type (<!DOCTYPE ...>), which is refused. Remove it.")

    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(label_config.encode("utf-8", errors="replace"), True)
    except expat.ExpatError as error:
        raise ConfigError(f"The label config is not well-formed XML: {error}. Correct it in Label Studio.") from error
    return builder.close()
