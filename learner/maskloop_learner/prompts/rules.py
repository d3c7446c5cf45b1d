"""Temporary."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """A prompt and where it came from."""

    text: str
    source: str
    template: str | None = None
    located: bool = False


def resolve_prompts(
    *,
    labels: Iterable[str],
    templates: Mapping[str, str],
    data: Mapping[str, object],
    typed: Mapping[str, str] | None = None,
    sheet: Mapping[str, str] | None = None,
) -> dict[str, Prompt]:
    """Label -> prompt."""
    found = {}
    for label in labels:
        if typed and label in typed:
            found[label] = Prompt(typed[label], "annotator")
        elif sheet and label in sheet:
            found[label] = Prompt(sheet[label], "sheet")
        else:
            found[label] = Prompt(templates.get(label) or label.lower(), "template")
    return found
