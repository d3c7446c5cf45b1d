"""A model as files that another installation takes in: weights, manifest, a card for people, and checksums."""

import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from maskloop_learner.model.files import write_whole
from maskloop_learner.train.card import write_card
from maskloop_learner.train.manifests import ModelManifest, decode

WEIGHTS, MANIFEST, CARD, SUMS = "weights.safetensors", "manifest.json", "README.md", "SHA256SUMS"
SMALL = 16_000_000
"""Bytes of a file other than the weights at most."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


class ArchiveError(ValueError):
    """Files that are no whole export of a model; the message names the file and what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An exported model, checked."""

    weights: bytes
    manifest: ModelManifest


def is_archive(path: Path) -> bool:
    """Whether this is an export of ours: a folder or a zip file with a manifest in it."""
    if path.is_dir():
        return (path / MANIFEST).is_file()
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return MANIFEST in archive.namelist()


def write_archive(path: Path, *, weights: bytes, manifest: bytes) -> None:
    """Write a model as a zip file (a name that ends with .zip), else as a folder that must be new or empty.

    Equal models give equal bytes. Raises ArchiveError when there is something else at `path`.
    """
    files = {WEIGHTS: weights, MANIFEST: manifest, CARD: write_card(decode(manifest)).encode()}
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    files[SUMS] = sums.encode()
    if path.suffix.lower() == ".zip":
        if path.is_dir():
            raise ArchiveError(f"{str(path)!r} is a folder; name a file that ends with .zip")
        write_whole(path, lambda part: part.write_bytes(_zip(files)))
        return
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ArchiveError(f"{str(path)!r} is there already; name a new folder, or a file that ends with .zip")
    for name, data in files.items():
        # The checksums come last: a folder without them is no export yet.
        write_whole(path / name, lambda part, data=data: part.write_bytes(data))  # type: ignore[misc]


def read_archive(path: Path) -> Archive:
    """An export, every digest checked. Raises ArchiveError naming the file that is missing, altered or too large."""
    if path.is_dir():
        return _check(lambda name, most: _from_folder(path, name, most), str(path))
    try:
        with zipfile.ZipFile(path) as archive:
            return _check(lambda name, most: _from_zip(archive, name, most), str(path))
    except zipfile.BadZipFile as error:
        raise ArchiveError(f"{str(path)!r} is damaged ({error}); copy it again") from error


def _check(read: Callable[[str, int], bytes], where: str) -> Archive:
    try:
        sums = _parse_sums(read(SUMS, SMALL))
        raw = read(MANIFEST, SMALL)
        manifest = decode(raw)
        card = read(CARD, SMALL)
        weights = read(WEIGHTS, int(manifest["weights"]["bytes"]))
    except (KeyError, FileNotFoundError) as error:
        raise ArchiveError(f"{where!r} is no whole export, {error} is missing; export the model again") from error
    except (ValueError, TypeError) as error:
        raise ArchiveError(f"{where!r} cannot be read: {error}") from error
    for name, data in ((MANIFEST, raw), (WEIGHTS, weights), (CARD, card)):
        if hashlib.sha256(data).hexdigest() != sums.get(name):
            raise ArchiveError(f"{name} in {where!r} was altered or cut short: it has another sha256 than {SUMS} says")
    if hashlib.sha256(weights).hexdigest() != manifest["weights"]["digest"]:
        raise ArchiveError(f"{WEIGHTS} in {where!r} are not the weights that {MANIFEST} names; export the model again")
    return Archive(weights=weights, manifest=manifest)


def _parse_sums(data: bytes) -> dict[str, str]:
    pairs = [line.split(None, 1) for line in data.decode().splitlines() if line.strip()]
    return {name.strip().lstrip("*"): digest for digest, name in pairs}


def _from_folder(folder: Path, name: str, most: int) -> bytes:
    path = folder / name
    if path.stat().st_size > most:
        raise ValueError(f"{name} has {path.stat().st_size} bytes, {most} were expected at most")
    return path.read_bytes()


def _from_zip(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    # Only known names are read, and none is unpacked beyond what the manifest announces.
    with archive.open(archive.getinfo(name)) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{name} has more than the {most} bytes that were expected")
    return data


def _zip(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    return out.getvalue()
