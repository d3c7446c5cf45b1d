"""What an annotator typed, shared out among the labels."""

import re
from collections.abc import Mapping, Sequence

from maskloop_learner.prompts.template import as_text


def split_typed(typed: Mapping[str, str] | str | None, labels: Sequence[str]) -> dict[str, str]:
    """Label -> what was typed for it; labels of which nothing was said are left out.

    One text for an image with several labels: lines "Label: text" are of that label; a text that names labels is of
    those. A text that names none is of all, each with its name in front, for the model tells labels apart by their
    prompts alone.
    """
    if typed is None:
        return {}
    if not isinstance(typed, str):
        return {label: text for label in labels if (text := as_text(typed.get(label)))}
    lines: dict[str, str] = {}
    rest: list[str] = []
    for line in typed.splitlines():
        head, colon, text = line.partition(":")
        label = next((each for each in labels if each.casefold() == head.strip().casefold()), None)
        if colon and label is not None and text.strip():
            lines[label] = as_text(text)
        else:
            rest.append(line)
    common = as_text(" ".join(rest))
    if not common:
        return lines
    if len(labels) == 1:
        return {labels[0]: common, **lines}
    named = [label for label in labels if _names(common, label)]
    if len(named) == 1:
        return {named[0]: common, **lines}
    shared = {label: f"{label.lower()}, {common}" for label in named or labels}
    return {**shared, **lines}


def _names(text: str, label: str) -> bool:
    # A plural names its label, too.
    name = re.escape(label.casefold().replace("_", " "))
    return re.search(rf"(?<!\w){name}(?:s|es)?(?!\w)", text.casefold()) is not None
