"""The file that is converted: its checksum, its names, and what its parsers' complaints are called."""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskloop_learner.convert.options import ConvertError, ConvertOptions

DIGEST = 12
"""Hex digits of a sha256 that stand for a file's name."""
BROKEN: tuple[type[Exception], ...] = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What the readers of pydicom, nibabel and Pillow raise on damaged bytes."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file to convert."""

    path: Path
    name: str
    """The base name, for messages."""
    sha256: str
    stem: str
    """What its pictures' names begin with."""
    file: str
    """What its pictures' origins call it: the base name or, where names are digests, the digest."""

    def origin(self, kind: str, frame: int | None, frames: int) -> dict[str, Any]:
        """What every origin begins with; frame counts from 1, None where there is only one."""
        return {"file": self.file, "sha256": self.sha256, "format": kind, "frame": frame, "frames": frames}

    def read(self) -> bytes:
        """The whole file; its size was checked before. Raises ConvertError when it cannot be read."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise ConvertError(f"{self.name}: it cannot be read ({error.strerror}); check the path") from error


def open_source(path: Path, *, suffix: str, digest: bool, options: ConvertOptions) -> Source:
    """Take a file up; suffix is its format's own. Raises ConvertError when it is too large or cannot be read."""
    try:
        megabytes = path.stat().st_size / 1e6
        if megabytes > options.max_megabytes:
            raise ConvertError(
                f"{path.name}: {megabytes:.1f} megabytes are over the limit of {options.max_megabytes:g}; "
                "split the file or raise the limit"
            )
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConvertError(f"{path.name}: it cannot be read ({error.strerror}); check the path") from error
    if options.rename == "digest" or (options.rename is None and digest):
        stem = sha256[:DIGEST]
        return Source(path=path, name=path.name, sha256=sha256, stem=stem, file=stem + suffix)
    return Source(path=path, name=path.name, sha256=sha256, stem=stem_of(path), file=path.name)


def stem_of(path: Path) -> str:
    """The base name without its suffix, .nii.gz counting as one."""
    return path.name[:-7] if path.name.lower().endswith(".nii.gz") and len(path.name) > 7 else path.stem


def check_size(width: int, height: int, *, name: str, options: ConvertOptions) -> None:
    """Raise ConvertError for a picture without pixels, or with more than the limit."""
    if width < 1 or height < 1:
        raise ConvertError(f"{name}: it says that it has {width} x {height} pixels; export it again")
    if width * height > options.max_megapixels * 1e6:
        raise ConvertError(
            f"{name}: {width} x {height} pixels are {width * height / 1e6:.1f} megapixels, over the limit of "
            f"{options.max_megapixels:g}; scale it down or raise MASKLOOP_MAX_IMAGE_MEGAPIXELS"
        )


@contextmanager
def damage_named(
    name: str, what: str, *, others: tuple[type[Exception], ...] = (), quote: bool = True
) -> Iterator[None]:
    """Turn what a reader raises on damaged bytes into a ConvertError.

    others: the reader's own exceptions; quote: whether its words are repeated, which may hold a tag's value.
    """
    damage: tuple[type[Exception], ...] = (*BROKEN, *others)
    try:
        yield
    except ConvertError:
        raise
    except MemoryError as error:
        raise ConvertError(f"{name}: the {what} does not fit into memory; scale it down") from error
    except damage as error:
        words = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}" if quote else type(error).__name__
        raise ConvertError(f"{name}: the {what} is damaged or cut short ({words}); export it again") from error
