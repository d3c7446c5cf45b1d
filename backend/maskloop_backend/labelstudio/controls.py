"""What Maskloop serves of a label config: mask tags on images, and tags in which a prompt is typed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

MaskKind = Literal["brush", "bitmask", "polygon"]
REGION_TYPES: dict[MaskKind, str] = {"brush": "brushlabels", "bitmask": "bitmasklabels", "polygon": "polygonlabels"}
"""Kind -> the type of its regions in Label Studio's results."""


@dataclass(frozen=True)
class Control:
    """A mask tag: regions of `from_name` on the image `to_name`, whose address is in task.data[`data_key`]."""

    kind: MaskKind
    from_name: str
    to_name: str
    data_key: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class PromptTag:
    """A TextArea in which the annotator may type what to look for on the image whose address is in `data_key`."""

    from_name: str
    to_name: str
    data_key: str


@dataclass(frozen=True)
class Interface:
    """All mask tags of a label config in its order, and its prompt tags. At least one mask tag."""

    controls: tuple[Control, ...]
    prompt_tags: tuple[PromptTag, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label once, in the config's order. A label of two images, or of two kinds of tag, is one label."""
        return tuple(dict.fromkeys(label for control in self.controls for label in control.labels))

    @property
    def data_keys(self) -> tuple[str, ...]:
        """The fields of a task that hold an image to be served, in the config's order."""
        return tuple(dict.fromkeys(control.data_key for control in self.controls))

    def on(self, data_key: str) -> "Interface":
        """The part that concerns one image of a task."""
        return Interface(
            tuple(control for control in self.controls if control.data_key == data_key),
            tuple(tag for tag in self.prompt_tags if tag.data_key == data_key),
        )

    def as_json(self) -> dict[str, Any]:
        """The same as plain data, as the pool keeps it in `projects.control`."""
        controls = [{**asdict(control), "labels": list(control.labels)} for control in self.controls]
        return {
            "controls": controls,
            "prompt_tags": [asdict(tag) for tag in self.prompt_tags],
            "labels": list(self.labels),
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """What `as_json` gave; empty before a project was connected."""
        controls = [Control(**{**row, "labels": tuple(row["labels"])}) for row in kept.get("controls", ())]
        return cls(tuple(controls), tuple(PromptTag(**row) for row in kept.get("prompt_tags", ())))
