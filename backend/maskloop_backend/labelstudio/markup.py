"""A label config as tags with what stands around them. Nothing in it is expanded or loaded."""

from dataclasses import dataclass
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

LARGEST = 1_000_000
DEEPEST = 100


class ConfigError(ValueError):
    """A label config that cannot be served; the message says why and what to change."""


@dataclass(frozen=True)
class Tag:
    """One tag, and the tags it stands in, the outermost first."""

    element: Element
    around: tuple[Element, ...]

    @property
    def kind(self) -> str:
        """The tag's name in lower case."""
        return self.element.tag

    def get(self, attribute: str) -> str:
        """An attribute by its name in lower case; empty when it is not there."""
        return self.element.get(attribute) or ""

    def labels(self) -> list[Element]:
        """The Label tags in it, at any depth."""
        return list(self.element.iter("label"))


def read_tags(label_config: str) -> list[Tag]:
    """All tags of a label config in its order. Names of tags and attributes become lower case.

    Raises ConfigError for what is not well-formed, very large or deep, or has a document type.
    """
    found: list[Tag] = []

    def walk(element: Element, around: tuple[Element, ...]) -> None:
        found.append(Tag(element, around))
        for child in element:
            walk(child, (*around, element))

    walk(_parse(label_config), ())
    return found


def _parse(label_config: str) -> Element:
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
