"""Reads a label config: what is served of it, or why nothing can be."""

import re
from collections import defaultdict
from collections.abc import Iterable
from xml.etree.ElementTree import Element

from maskloop_backend.labelstudio.controls import REGION_TYPES, Control, Interface, MaskKind, PromptTag
from maskloop_backend.labelstudio.images import find_image, read_data_key, refuse_conditions
from maskloop_backend.labelstudio.markup import ConfigError as ConfigError
from maskloop_backend.labelstudio.markup import Tag, read_tags

TITLES: dict[MaskKind, str] = {"brush": "BrushLabels", "bitmask": "BitmaskLabels", "polygon": "PolygonLabels"}
"""Kind -> how its tag is written."""
KINDS: dict[str, MaskKind] = {tag: kind for kind, tag in REGION_TYPES.items()}
BARE = {
    "brush": ("Brush", "BrushLabels"),
    "bitmask": ("Bitmask", "BitmaskLabels"),
    "polygon": ("Polygon", "PolygonLabels"),
    "magicwand": ("MagicWand", "BrushLabels"),
}
"""Tags that draw masks without saying what they show -> how they are written, and the tag to use instead."""
NO_MASKS = {
    "rectanglelabels": "RectangleLabels",
    "ellipselabels": "EllipseLabels",
    "keypointlabels": "KeyPointLabels",
    "vectorlabels": "VectorLabels",
    "hypertextlabels": "HyperTextLabels",
    "paragraphlabels": "ParagraphLabels",
    "timeserieslabels": "TimeSeriesLabels",
    "timelinelabels": "TimelineLabels",
    "videorectangle": "VideoRectangle",
    "labels": "Labels",
}
FIELD = re.compile(r"\$[A-Za-z0-9_.{}\[\]]")
"""What Label Studio's pages take for the beginning of a field's name."""
EXAMPLE = (
    '<View><Image name="image" value="$image"/><BrushLabels name="mask" toName="image">'
    '<Label value="Tumor"/></BrushLabels></View>'
)


def read_interface(label_config: str) -> Interface:
    """Find all mask tags of a label config, the images they draw on, and the tags in which prompts are typed.

    A label goes by its alias where it has one, as in Label Studio's results. Tags that draw no masks (boxes,
    choices, texts) and images without a mask tag may be there and are left alone. Raises ConfigError.
    """
    tags = read_tags(label_config)
    masks = [tag for tag in tags if tag.kind in KINDS]
    _refuse_bare(tags, masks)
    if not masks:
        others = sorted({NO_MASKS[tag.kind] for tag in tags if tag.kind in NO_MASKS})
        instead = f" What it has ({', '.join(others)}) draws no masks." if others else ""
        raise ConfigError(
            "The label config has no mask tag: no BrushLabels, BitmaskLabels or PolygonLabels."
            f"{instead} An example: {EXAMPLE}"
        )
    controls = tuple(_control(tag, tags) for tag in masks)
    _refuse_same_names(tags)
    _refuse_same_labels(controls)
    _refuse_same_keys(controls)
    keys = {control.to_name: control.data_key for control in controls}
    prompts = (tag for tag in tags if _is_prompt(tag) and tag.get("toname") in keys)
    return Interface(
        controls, tuple(PromptTag(tag.get("name"), tag.get("toname"), keys[tag.get("toname")]) for tag in prompts)
    )


def _control(tag: Tag, tags: Iterable[Tag]) -> Control:
    kind = KINDS[tag.kind]
    if not tag.get("name").strip() or not tag.get("toname").strip():
        raise ConfigError(f"{TITLES[kind]} lacks its name or its toName. Give it both.")
    what = f"{TITLES[kind]} {tag.get('name')!r}"
    refuse_conditions(tag, what)
    image = find_image(tag, tags, what)
    return Control(kind, tag.get("name"), tag.get("toname"), read_data_key(image), tuple(_labels(tag, what)))


def _labels(tag: Tag, what: str) -> list[str]:
    if tag.get("value").strip():
        raise ConfigError(
            f"{what} takes its labels from the tasks (value={tag.get('value')!r}). "
            "Write the labels into the label config: the model learns a fixed set."
        )
    labels = [_label(label, what) for label in tag.labels()]
    if not labels:
        raise ConfigError(f"{what} has no Label. Add at least one.")
    if not all(label.strip() for label in labels):
        raise ConfigError(f"{what} has a Label without a value. Name it.")
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ConfigError(f"{what} has the label {twice[0]!r} more than once. Names must differ.")
    for view in tag.element.iter("view"):
        if view.get("visiblewhen") or view.get("whenchoicevalue"):
            raise ConfigError(f"{what} shows some of its labels under a condition only. Take the condition away.")
    return labels


def _label(tag: Element, what: str) -> str:
    label = tag.get("alias") or tag.get("value") or ""
    if not tag.get("alias") and FIELD.search(label):
        raise ConfigError(
            f"{what} has the Label {label!r}, whose $ makes Label Studio look into the task for it. "
            "Write the label itself, or give it an alias."
        )
    return label


def _is_prompt(tag: Tag) -> bool:
    per_region = tag.get("perregion").strip().lower() == "true"
    return tag.kind == "textarea" and tag.get("name").lower().startswith("prompt") and not per_region


def _refuse_bare(tags: Iterable[Tag], masks: list[Tag]) -> None:
    drawn_on = {tag.get("toname") for tag in masks}
    for tag in tags:
        if tag.kind in BARE and (not masks or tag.get("toname") in drawn_on):
            title, instead = BARE[tag.kind]
            raise ConfigError(
                f"{title} {tag.get('name')!r} has its labels in a tag of their own, and Label Studio then keeps "
                f"mask and label apart. Take it away, and put its labels into {instead}."
            )


def _refuse_same_names(tags: Iterable[Tag]) -> None:
    seen: set[str] = set()
    for tag in tags:
        name = tag.get("name")
        if name and name in seen:
            raise ConfigError(f"Two tags are called {name!r}. Names must differ: a region names its tag.")
        seen.add(name)


def _refuse_same_labels(controls: Iterable[Control]) -> None:
    seen: dict[tuple[str, MaskKind, str], str] = {}
    for control in controls:
        for label in control.labels:
            other = seen.setdefault((control.to_name, control.kind, label), control.from_name)
            if other != control.from_name:
                raise ConfigError(
                    f"The label {label!r} is in two {TITLES[control.kind]} on one image, {other!r} and "
                    f"{control.from_name!r}: it has two meanings. Rename one of the labels."
                )


def _refuse_same_keys(controls: Iterable[Control]) -> None:
    images: dict[str, set[str]] = defaultdict(set)
    for control in controls:
        images[control.data_key].add(control.to_name)
        if len(images[control.data_key]) > 1:
            names = " and ".join(repr(name) for name in sorted(images[control.data_key]))
            raise ConfigError(
                f"The images {names} both show ${control.data_key}, and both have mask tags. Point all mask tags "
                "at one of them: a mask on one would be missing on the other."
            )
