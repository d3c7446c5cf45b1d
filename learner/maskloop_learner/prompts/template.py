"""Templates of prompts: slots in braces, optional groups in brackets that vanish with their blanks and commas.

    {finding}[, {size}][ at the {site}] in the {modality|ultrasound} image

`{size}` is a slot, `{modality|ultrasound}` one with a default. A group `[...]` vanishes when a slot of its own is
empty or missing; groups within it come and go by themselves, and a group of groups alone vanishes with the last of
them. `{{`, `}}` and `[[` are literal; `]]` is literal where fewer than two groups are open, else it closes two.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite

MARK = "▸"


class TemplateError(ValueError):
    """A template that cannot be read, or not be filled; the message quotes it and says what to do."""


class MissingSlot(TemplateError):
    """A slot outside all groups has no word."""

    def __init__(self, slot: str, template: str) -> None:
        super().__init__(
            f"template {template!r}: the slot {slot!r} is empty; give it a word, a default {{{slot}|word}}, "
            "or put it into a group [...] that may vanish"
        )
        self.slot = slot


@dataclass(frozen=True)
class Slot:
    """A place for a word. `default` None: it has none."""

    name: str
    default: str | None = None


@dataclass(frozen=True)
class Group:
    """Parts that vanish together."""

    parts: "tuple[str | Slot | Group, ...]"


Part = str | Slot | Group


@dataclass(frozen=True)
class Template:
    """A parsed template. `source` is its text as written."""

    source: str
    parts: tuple[Part, ...]

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of all slots, once each, in the order of the text."""
        return tuple(dict.fromkeys(slot.name for slot in _slots(self.parts)))

    @property
    def fixed(self) -> bool:
        """Whether it says the same whatever the fields."""
        return all(isinstance(part, str) for part in self.parts)

    def render(self, fields: Mapping[str, object], *, groups: bool = True) -> str:
        """The text with its slots filled (see `as_text`), blanks and punctuation tidied.

        `groups=False` leaves every group out. May be empty when all of it is optional. Raises MissingSlot naming a
        slot outside all groups that has neither a word nor a default.
        """
        words = {slot: _word(slot, fields) for slot in _slots(self.parts)}
        for part in self.parts:
            if isinstance(part, Slot) and part.default is None and not words[part]:
                raise MissingSlot(part.name, self.source)
        parts = self.parts if groups else tuple(part for part in self.parts if not isinstance(part, Group))
        return tidy(_join(parts, words))


@lru_cache(maxsize=512)
def parse_template(text: str) -> Template:
    """The template that the text is. Raises TemplateError marking the place and saying how to mend it."""
    reader = _Reader(text)
    parts = reader.read()
    if not text.strip():
        raise TemplateError(f"template {text!r}: it is empty; write at least the name of what is to be drawn")
    return Template(text, parts)


def literal(text: str) -> str:
    """The template that says just this text."""
    return re.sub(r"([][{}])", r"\1\1", text)


def digest(text: str) -> str:
    """8 hex digits that name a template's text: its provenance is `template@` and these."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def as_text(value: object) -> str:
    """A field as words: texts tidied, whole numbers without decimals, lists joined by commas.

    Empty for all else: None, true, false, objects, and numbers that are not finite.
    """
    if isinstance(value, str):
        # Halves of surrogate pairs, which JSON can carry, and zeros: databases and tokenizers refuse them.
        return " ".join(value.encode("utf-8", "replace").decode().replace("\0", " ").split())
    if isinstance(value, bool):
        return ""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:g}" if isfinite(value) else ""
    if isinstance(value, list | tuple):
        return ", ".join(word for word in map(as_text, value) if word)
    return ""


def tidy(text: str) -> str:
    """One line without double blanks, blanks before punctuation, doubled or dangling commas, or empty brackets."""
    before = None
    # What one rule takes away can make room for another; each only shortens, so this ends.
    while text != before:
        before = text
        text = " ".join(text.split())
        text = re.sub(r"\(\s*\)", "", text)
        text = re.sub(r" +(?=[,;])| +(?=[.:!?)](?:[\s,;.:!?)]|$))|(?<=\() +", "", text)
        text = re.sub(r"([,;])(?: ?[,;])+", r"\1", text)
        text = re.sub(r"[,;](?=[.!?](?: |$)|\))|(?<=\()[,;]", "", text)
        text = text.lstrip(" ,;:").rstrip(" ,;:")
    return text


class _Reader:
    """One pass over a template's characters."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def read(self) -> tuple[Part, ...]:
        parts = self._parts(depth=0)
        if self._at < len(self._text):
            raise self._error(self._at, "']' closes nothing; write ']]' for a bracket, '[ [' where groups begin")
        return parts

    def _parts(self, depth: int) -> tuple[Part, ...]:
        parts: list[Part] = []
        while self._at < len(self._text):
            two, one = self._text[self._at : self._at + 2], self._text[self._at]
            if two in ("{{", "}}", "[[") or (two == "]]" and depth < 2):
                parts.append(one)
                self._at += 2
            elif one == "{":
                parts.append(self._slot())
            elif one == "}":
                raise self._error(self._at, "'}' closes nothing; write '}}' for a brace")
            elif one == "[":
                parts.append(self._group(depth))
            elif one == "]":
                break
            else:
                parts.append(one)
                self._at += 1
        return tuple(_merge(parts))

    def _group(self, depth: int) -> Group:
        start = self._at
        self._at += 1
        parts = self._parts(depth + 1)
        if self._at == len(self._text):
            raise self._error(start, "'[' is never closed; write ']' where the group ends, or '[[' for a bracket")
        self._at += 1
        if not any(True for _ in _slots(parts)):
            raise self._error(start, "this group has no slot, so it would never vanish; take its brackets away")
        return Group(parts)

    def _slot(self) -> Slot:
        start = self._at
        found = re.compile(r"\{([^{}\[\]]*)\}").match(self._text, start)
        if found is None:
            raise self._error(start, "'{' opens no slot; close it with '}' after its name, or write '{{' for a brace")
        self._at = found.end()
        name, bar, default = found[1].partition("|")
        if not name.strip():
            raise self._error(start, "this slot has no name; write for instance '{size}'")
        return Slot(" ".join(name.split()), " ".join(default.split()) if bar else None)

    def _error(self, place: int, said: str) -> TemplateError:
        marked = self._text[:place] + MARK + self._text[place:]
        return TemplateError(f"template {marked!r}, at {MARK}, character {place + 1}: {said}")


def _merge(parts: list[Part]) -> Iterator[Part]:
    text = ""
    for part in parts:
        if isinstance(part, str):
            text += part
            continue
        if text:
            yield text
        text = ""
        yield part
    if text:
        yield text


def _slots(parts: tuple[Part, ...]) -> Iterator[Slot]:
    for part in parts:
        if isinstance(part, Slot):
            yield part
        elif isinstance(part, Group):
            yield from _slots(part.parts)


def _word(slot: Slot, fields: Mapping[str, object]) -> str:
    return as_text(fields.get(slot.name)) or slot.default or ""


def _join(parts: tuple[Part, ...], words: Mapping[Slot, str]) -> str:
    return "".join(
        part if isinstance(part, str) else words[part] if isinstance(part, Slot) else _fill(part, words)
        for part in parts
    )


def _fill(group: Group, words: Mapping[Slot, str]) -> str:
    own = [part for part in group.parts if isinstance(part, Slot)]
    inner = [part for part in group.parts if isinstance(part, Group)]
    there = all(words[slot] for slot in own) if own else any(_fill(each, words) for each in inner)
    # A group with a blank at either end leaves one, or the words around it would grow together.
    return _join(group.parts, words) if there else " " if _is_spaced(group) else ""


def _is_spaced(group: Group) -> bool:
    first, last = group.parts[0], group.parts[-1]
    return isinstance(first, str) and first[0].isspace() and isinstance(last, str) and last[-1].isspace()
