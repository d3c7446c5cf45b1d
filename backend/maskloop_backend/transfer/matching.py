"""Which image a mask file belongs to, and which label it is of, by its name and its folder."""

import re
from dataclasses import dataclass
from pathlib import Path

from maskloop_backend.labelstudio.controls import Interface
from maskloop_backend.transfer import TransferError
from maskloop_backend.transfer.labels import missing_labels
from maskloop_backend.transfer.names import find_label, safe_name

MASK_ENDING = re.compile(r"[ _-](mask|seg|segmentation|gt)([ _-]?\d+)?$", re.IGNORECASE)
FRAME_ENDING = re.compile(r"(.+)-(\d+)")


@dataclass(frozen=True)
class Match:
    """The image that a mask belongs to, and what its ending tells of it."""

    key: str
    label: str | None = None
    frame: int | None = None


@dataclass(frozen=True)
class Matcher:
    """Finds a mask's image by name. `names`: keys of the images."""

    names: set[str]
    interface: Interface

    def exact(self, key: str) -> Match | None:
        """The image of the very name."""
        return Match(key) if key in self.names else None

    def partner(self, key: str) -> Match | None:
        """The image whose name is the beginning of this one, with an ending that masks have."""
        plain = MASK_ENDING.sub("", key)
        if plain != key and plain in self.names:
            return Match(plain)
        for label in self.interface.labels:
            for spelling in (label, safe_name(label)):
                for joint in "_- ":
                    for end in (key, plain):
                        stem = end.removesuffix(joint + spelling)
                        if stem != end and stem in self.names:
                            return Match(stem, label)
        numbered = FRAME_ENDING.fullmatch(key)
        if numbered and numbered[1] in self.names:
            return Match(numbered[1], None, int(numbered[2]))
        return None


def label_folders_of(masks: Path, images: Path, interface: Interface) -> dict[str, str]:
    """Folder -> label, when masks are in a folder for each label. Raises TransferError for one that is none."""
    folders = [path.name for path in sorted(masks.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    if masks == images or not folders:
        return {}
    labels = {name: find_label(name, interface.labels) for name in folders}
    unknown = [name for name, label in labels.items() if label is None]
    mirrored = all((images / name).is_dir() for name in folders)
    if len(unknown) == len(folders) and mirrored:
        return {}
    if unknown:
        raise TransferError(missing_labels(unknown, interface, f"the folders in {masks}"))
    return {name: label for name, label in labels.items() if label}
