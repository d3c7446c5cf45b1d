"""Which labels the masks of a source are of, as the person says, checked against the project's."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import quoteattr

from maskloop_backend.labelstudio.controls import Interface
from maskloop_backend.transfer import TransferError, WrongCall


@dataclass(frozen=True)
class Naming:
    """What a person said of the labels. `values`: number of a pixel -> label, "" to leave it out."""

    label: str | None = None
    values: Mapping[int, str] = field(default_factory=dict)

    @property
    def used(self) -> tuple[str, ...]:
        """The labels it names, once each."""
        named = [self.label] if self.label else []
        return tuple(dict.fromkeys(label for label in (*named, *self.values.values()) if label))


def read_naming(label: str | None, values: str | None) -> Naming:
    """--label and --values as typed. Raises WrongCall."""
    if label is not None and values is not None:
        raise WrongCall("--label and --values exclude each other: give the one that fits the masks")
    numbers: dict[int, str] = {}
    for part in (values or "").split(",") if values is not None else ():
        number, equals, name = part.partition("=")
        if not equals or not number.strip().isdecimal() or not 0 < int(number) < 1 << 16:
            raise WrongCall(f'--values must look like "1=Liver,2=Tumor" with numbers 1..65535, got {values!r}')
        if int(number) in numbers:
            raise WrongCall(f"--values names {number.strip()} twice, got {values!r}")
        numbers[int(number)] = name.strip()
    return Naming(label, numbers)


def check_labels(labels: Iterable[str], interface: Interface, whose: str) -> None:
    """Raises TransferError naming the labels that the project does not have."""
    missing = [label for label in dict.fromkeys(labels) if label not in interface.labels]
    if missing:
        raise TransferError(missing_labels(missing, interface, whose))


def missing_labels(missing: Iterable[str], interface: Interface, whose: str) -> str:
    """What to say of labels that are not in the label config, with the lines to add."""
    missing = list(missing)
    lines = "\n".join(f"    <Label value={quoteattr(label)}/>" for label in missing)
    return (
        f"{whose}: {', '.join(map(repr, missing))} {'is no label' if len(missing) == 1 else 'are no labels'} of the "
        f"project, which has {', '.join(interface.labels)}. Rename, or add to its label config (Settings > Labeling "
        f"Interface), in the tag of the other labels:\n{lines}"
    )
