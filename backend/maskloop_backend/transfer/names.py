"""Names of images and labels as names of files, and back."""

import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import unquote

from maskloop_backend.transfer import TransferError
from maskloop_learner.pool.images import sniff_format

PICTURE_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp"}
KNOWN_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".dcm", ".dicom", ".nii", ".gz"}
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
LONGEST = 180
"""Bytes of a name: file systems take 255, and suffixes are added."""
UPLOAD_LENGTH = 60
"""Characters: Label Studio keeps 100 of the whole path."""
UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-")
"""Label Studio puts it before the name of an uploaded file."""


def safe_name(text: str) -> str:
    """A name that every file system takes; `plain_name` gives the text back.

    Letters of any script, digits, blanks and `-_.,()+` stay, all else becomes %XX of its UTF-8. Raises
    TransferError for no text, and when the name would be longer than file systems take.
    """
    if not text:
        raise TransferError("a file needs a name")
    kept = "".join(char if char.isalnum() or char in " -_.,()+" else _quote(char) for char in text)
    if RESERVED.fullmatch(kept) or kept[0] in ". ":
        kept = _quote(text[0]) + kept[1:]
    if kept[-1] in ". ":
        kept = kept[:-1] + _quote(kept[-1])
    if len(kept.encode()) > LONGEST:
        raise TransferError(f"the name {text[:60]!r}... is too long for a file: {len(kept.encode())} bytes")
    return kept


def plain_name(name: str) -> str:
    """The text of a name that `safe_name` made; others come back as they are."""
    return unquote(name, errors="replace")


def label_folders(labels: Iterable[str]) -> dict[str, str]:
    """Label -> folder name, distinct on file systems without upper and lower case too; `plain_name` reads them."""
    folders: dict[str, str] = {}
    taken: set[str] = set()
    for label in labels:
        # Any letter may be written as %XX: read back it is the same label.
        spellings = (_quote_first(label, count) for count in range(len(label) + 1))
        name = next((name for name in spellings if _folded(name) not in taken), None)
        if name is None:
            raise TransferError(f"the label {label!r} is there twice")
        taken.add(_folded(name))
        folders[label] = name
    return folders


def find_label(name: str, labels: Iterable[str]) -> str | None:
    """The label that a folder or a suffix of this name means: as it is written, or with other Unicode composition."""
    text = plain_name(name)
    known = list(labels)
    if text in known:
        return text
    composed = unicodedata.normalize("NFC", text)
    return next((label for label in known if unicodedata.normalize("NFC", label) == composed), None)


class FileNames:
    """Gives every image a name of its own: also without its suffix, and where upper and lower case are one."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last: dict[str, int] = {}
        """Base -> number that its last image got: ten thousand slice.png must not be counted again for each."""

    def take(self, wanted: str, format_name: str) -> str:
        """A free, safe file name like `wanted`, with the suffix of the image's format (JPEG, PNG, WEBP, BMP)."""
        base = _cut(split_name(wanted)[0].strip() or "image")
        number = self._last.get(_folded(base), 1)
        name = base if number == 1 else f"{base}_{number}"
        while _folded(name) in self._taken:
            number += 1
            name = f"{base}_{number}"
        self._taken.add(_folded(name))
        self._last[_folded(base)] = number
        return name + PICTURE_SUFFIXES[format_name]


def split_name(name: str) -> tuple[str, str]:
    """Stem and suffix of a picture's or volume's name; .nii.gz is one suffix, an unknown one none."""
    stem, dot, suffix = name.rpartition(".")
    if not dot or not stem or f".{suffix.lower()}" not in KNOWN_SUFFIXES:
        return name, ""
    if suffix.lower() == "gz":
        stem = stem[:-4] if stem.lower().endswith(".nii") else stem
        return stem, name[len(stem) :]
    return stem, f".{suffix}"


def shown_name(data_name: object, url: str, task: int) -> str:
    """What an image is called: the task's own `name`, else the last part of its address, else its number."""
    if isinstance(data_name, str) and data_name.strip():
        return data_name.strip()
    last = unquote(url.split("?d=")[-1].split("?")[0].rstrip("/").rsplit("/", 1)[-1], errors="replace")
    if "/data/upload/" in url:
        last = UPLOAD_PREFIX.sub("", last, count=1)
    return last or f"task {task}"


def upload_name(name: str, data: bytes) -> str:
    """What a picture is called in Label Studio: without folders, not too long, with the suffix of its format."""
    stem = split_name(name)[0].replace("/", "_")[-UPLOAD_LENGTH:].strip(" .") or "image"
    return stem + PICTURE_SUFFIXES[sniff_format(data) or "PNG"]


def _cut(stem: str) -> str:
    while True:
        try:
            return safe_name(stem)
        except TransferError:
            stem = stem[: -max(1, len(stem) // 8)]


def _quote_first(text: str, count: int) -> str:
    rest = text[count:]
    return "".join(map(_quote, text[:count])) + (safe_name(rest) if rest else "")


def _quote(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
