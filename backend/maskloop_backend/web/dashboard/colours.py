"""The colour of each label, as annotators see it in Label Studio."""

import re
from collections.abc import Sequence

from maskloop_backend.labelstudio.config import ConfigError
from maskloop_backend.labelstudio.controls import Interface
from maskloop_backend.labelstudio.markup import read_tags
from maskloop_backend.labelstudio.template import COLOURS
from maskloop_learner.pool.schema import Project

_HEX = re.compile(r"#([0-9a-fA-F]{6})")


def label_colours(project: Project) -> dict[str, str]:
    """Label -> "#rrggbb": what the label config says, else the colours that `maskloop label-config` gives."""
    labels = project_labels(project)
    found = {label: COLOURS[number % len(COLOURS)] for number, label in enumerate(labels)}
    try:
        tags = read_tags(project.label_config) if project.label_config else []
    except ConfigError:
        return found  # it was edited and cannot be served; doctor says so
    for tag in tags:
        name = tag.get("alias") or tag.get("value")
        if tag.kind == "label" and name in found and _HEX.fullmatch(tag.get("background")):
            found[name] = tag.get("background").lower()
    return found


def project_labels(project: Project) -> Sequence[str]:
    """The labels of a project, in its config's order."""
    return Interface.from_json(project.control).labels if project.control else ()


def rgb(colour: str) -> tuple[int, int, int]:
    """ "#e69f00" -> (230, 159, 0)."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
