"""Image files as a browser can show them: as they are where it can, else converted to PNG."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskloop_backend.transfer import Refused, converting
from maskloop_backend.transfer.converting import Options
from maskloop_backend.transfer.rasters import read_bytes
from maskloop_learner.convert.kinds import sniff_kind
from maskloop_learner.convert.passing import picture_suffix
from maskloop_learner.convert.source import DIGEST
from maskloop_learner.pool.images import ImageError, probe_image


@dataclass(frozen=True)
class Limits:
    """What Label Studio's annotators and Maskloop can open."""

    megabytes: float
    megapixels: float


@dataclass(frozen=True)
class Picture:
    """A picture to upload, with what it was made from."""

    key: str
    """sha256 of the source file; of a volume's pictures with the picture's place."""
    name: str
    data: bytes = field(repr=False)
    width: int
    """Pixels as shown."""
    height: int
    origin: dict[str, Any]


def is_shown(path: Path) -> bool:
    """Whether a browser shows this file as it is. Raises Refused when it cannot be read."""
    try:
        return sniff_kind(path) == "picture"
    except OSError as error:
        raise Refused(f"{path.name}: cannot be read ({error.strerror or error})") from error


def open_pictures(path: Path, name: str, *, limits: Limits, options: Options) -> Iterator[Picture]:
    """The pictures of one file: one, or those of a volume one by one. Raises Refused, also half-way.

    name: the file's path within its source.
    """
    if is_shown(path) and not options.strip:
        yield _open_shown(path, name, limits, options)
        return
    for made in converting.convert(path, options):
        _check(made.data, made.name, limits)
        yield Picture(made.key, made.name, made.data, made.width, made.height, made.origin)


def _open_shown(path: Path, name: str, limits: Limits, options: Options) -> Picture:
    size = path.stat().st_size
    if size > limits.megabytes * 1e6:
        raise Refused(_too_large(name, size, limits))
    data = read_bytes(path)
    width, height = _check(data, name, limits)
    digest = hashlib.sha256(data).hexdigest()
    if options.rename == "digest":
        name = digest[:DIGEST] + picture_suffix(data)
    return Picture(digest, name, data, width, height, {"file": name})


def _check(data: bytes, name: str, limits: Limits) -> tuple[int, int]:
    if len(data) > limits.megabytes * 1e6:
        raise Refused(_too_large(name, len(data), limits))
    try:
        info = probe_image(data, max_megapixels=limits.megapixels, name=name)
    except ImageError as error:
        raise Refused(str(error)) from error
    return info.width, info.height


def _too_large(name: str, size: int, limits: Limits) -> str:
    return (
        f"{name}: has {size / 1e6:.1f} MB, over the limit of {limits.megabytes:g}; make it smaller or raise "
        "MASKLOOP_MAX_IMAGE_MEGABYTES"
    )
