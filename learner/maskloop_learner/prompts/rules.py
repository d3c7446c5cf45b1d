"""Which words ask for a label on an image, and where they come from.

The first of these that there is: what the annotator typed, the row of a prompt sheet, the project's template filled
from the task's data, the label's own name. Nothing is ever taken from a mask.

A project's templates are a mapping of label -> text. `*` is the template of all labels without one of their own, and
`!Label` (or `!*`) says that nothing is there, for training alone. A template may use `{label}`, `{finding}` (the
label, unless the task's data has a finding), any field of the task's data, `{a.b}` for a field within a field, and
`{prompt}`: the task's own prompt, from its fields `prompt:Label`, `prompts` (label -> text) or `prompt`. Those fields
count in templates with that slot alone.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from maskloop_learner.prompts.location import find_location
from maskloop_learner.prompts.template import MissingSlot, Template, as_text, digest, literal, parse_template
from maskloop_learner.prompts.typed import split_typed

Source = Literal["template", "field", "sheet", "annotator", "default"]
ALL = "*"
NEGATIVE = "!"
OWN = "prompt"
"""The slot of the task's own prompt."""
PLACES = ("location", "position", "quadrant", "side", "region", "laterality")
"""Slots whose words tell a place even where `find_location` knows them not."""


@dataclass(frozen=True)
class Prompt:
    """What a label is asked by on one image."""

    text: str
    source: Source
    template: str | None = None
    """Provenance, `template@` and 8 hex digits, when a template gave it."""
    located: bool = False
    """It says where the finding is; it is never validated with."""
    plain: str = ""
    """What to ask instead where a location must not be known; the text itself when it has none."""
    reason: str = ""
    """Why it is the label's name although there is a template; else empty."""


def resolve_prompts(
    *,
    labels: Iterable[str],
    templates: Mapping[str, str],
    data: Mapping[str, object],
    typed: Mapping[str, str] | str | None = None,
    sheet: Mapping[str, str] | None = None,
) -> dict[str, Prompt]:
    """The prompt of every label on one image, in the order of the labels. Raises TemplateError for a bad template.

    `typed`: label -> text, or one text for the image (see `split_typed`). `sheet`: label -> text of a prompt sheet.
    """
    wanted = list(labels)
    written = split_typed(typed, wanted)
    found = {}
    for label in wanted:
        base = _from_template(label, templates, data)
        given: tuple[tuple[str, Source], ...] = (
            (as_text(written.get(label)), "annotator"),
            (as_text((sheet or {}).get(label)), "sheet"),
        )
        told = next(((text, source) for text, source in given if text), None)
        if told is None:
            found[label] = base
            continue
        located = find_location(told[0], allow=label) is not None
        found[label] = Prompt(told[0], told[1], None, located, base.plain if located else told[0])
    return found


def default_prompts(labels: Iterable[str], templates: Mapping[str, str]) -> dict[str, str]:
    """The project's prompts where an image adds nothing of its own. Raises TemplateError for a bad template."""
    return {label: found.text for label, found in resolve_prompts(labels=labels, templates=templates, data={}).items()}


def validation_prompt(prompt: Prompt) -> str:
    """What a model is validated with: the prompt, or in place of one that tells a location, the template without it."""
    return prompt.plain if prompt.located else prompt.text


def render_negative(label: str, templates: Mapping[str, str], data: Mapping[str, object] | None = None) -> str | None:
    """The words that say that the label is absent; None without such a template, or when a slot of it is empty."""
    text = templates.get(NEGATIVE + label) or templates.get(NEGATIVE + ALL)
    if not text:
        return None
    template = parse_template(text)
    try:
        return template.render(_fields(template, label, data or {})) or None
    except MissingSlot:
        return None


def lesser_prompts(label: str, templates: Mapping[str, str], *, own: str | None = None) -> tuple[str, ...]:
    """Forms that say less than the prompt of an image, none with a location, most words first.

    The project's prompt, its template without optional groups, the label's name. None for an image that is asked by a
    fixed text: there is nothing that could be left out. `own`: the image's prompt where it has one of its own.
    """
    template = template_of(label, templates)
    asked = _from_template(label, templates, {}).text
    if own in (None, asked) and (template is None or template.fixed):
        return ()
    forms = [asked, label.lower()]
    if template is not None:
        with suppress(MissingSlot):
            forms.insert(1, template.render(_fields(template, label, {}), groups=False))
    unlike = [form for form in forms if form and form != (own or asked)]
    return tuple(dict.fromkeys(form for form in unlike if find_location(form, allow=label) is None))


def template_of(label: str, templates: Mapping[str, str]) -> Template | None:
    """The template that a label is asked by, its own or that of all labels. Raises TemplateError when it is bad."""
    text = templates.get(label) or templates.get(ALL)
    return parse_template(text) if text else None


def _from_template(label: str, templates: Mapping[str, str], data: Mapping[str, object]) -> Prompt:
    name = label.lower()
    template = template_of(label, templates)
    if template is None or template.source in (name, literal(name)):
        return Prompt(name, "default", plain=name)
    fields = _fields(template, label, data)
    try:
        text = template.render(fields)
    except MissingSlot as error:
        return Prompt(name, "default", plain=name, reason=f"the slot {error.slot!r} of the template is empty here")
    if not text:
        return Prompt(name, "default", plain=name, reason="every part of the template is optional, and empty here")
    told = _find_places(template, label, fields)
    source: Source = "field" if as_text(fields.get(OWN)) else "template"
    located = bool(told) or find_location(text, allow=label) is not None
    plain = _render_plain(template, label, fields, told) if located else text
    return Prompt(text, source, f"template@{digest(template.source)}", located, plain)


def _find_places(template: Template, label: str, fields: Mapping[str, object]) -> set[str]:
    """Slots whose words are a place."""
    words = {slot: as_text(fields.get(slot)) for slot in template.slots}
    return {
        slot for slot, word in words.items() if word and (slot.lower() in PLACES or find_location(word, allow=label))
    }


def _render_plain(template: Template, label: str, fields: Mapping[str, object], told: set[str]) -> str:
    """The template without the fields that tell a place. A place in its fixed words is the same for every image."""
    try:
        kept = {"finding": label.lower()} | {slot: word for slot, word in fields.items() if slot not in told}
        return template.render(kept) or label.lower()
    except MissingSlot:
        return label.lower()


def _fields(template: Template, label: str, data: Mapping[str, object]) -> dict[str, object]:
    """Slot -> its value. `label` is always the label; `finding` is, where the data has none."""
    found = {slot: _look_up(data, slot) for slot in template.slots}
    if OWN in found:
        found[OWN] = _own_prompt(label, data)
    if not as_text(found.get("finding")):
        found["finding"] = label.lower()
    return found | {"label": label.lower()}


def _own_prompt(label: str, data: Mapping[str, object]) -> str:
    each = data.get("prompts")
    texts: tuple[Any, ...] = (
        data.get(f"{OWN}:{label}"),
        each.get(label) if isinstance(each, Mapping) else None,
        data.get(OWN),
    )
    return next((as_text(text) for text in texts if as_text(text)), "")


def _look_up(data: Mapping[str, object], name: str) -> object:
    if name in data:
        return data[name]
    first, dot, rest = name.partition(".")
    inner = data.get(first)
    return _look_up(inner, rest) if dot and isinstance(inner, Mapping) else None
