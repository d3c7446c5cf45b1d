"""A folder of finished trainings and tests: what is in it is not done again."""

import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskloop_learner.data.layout import Item

log = logging.getLogger(__name__)
RUN = "run.json"
Say = Callable[[str], None]


class ProtocolError(RuntimeError):
    """A protocol that cannot be run as asked; the message says why and what to do."""


@dataclass(frozen=True)
class Weights:
    """A training: done, or to be done when its weights are first needed."""

    key: str
    """Digest of what was learnt from."""
    load: Callable[[], bytes]


class Cells:
    """Weights and figures by name, each in a file of its own that is written whole or not at all."""

    def __init__(self, folder: Path, *, settings: Mapping[str, Any]) -> None:
        """`settings`: all that determines the results but the images (JSON types).

        Raises ProtocolError when the folder holds results of other settings, or is no folder.
        """
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise ProtocolError(f"{str(folder)!r} is a file; choose a folder for the results") from error
        before = read_json(folder / RUN)
        wanted = json.loads(json.dumps(settings))
        if before is None:
            write_atomically(folder / RUN, to_json(wanted).encode())
        elif before != wanted:
            names = sorted(name for name in before.keys() | wanted.keys() if before.get(name) != wanted.get(name))
            listed = ", ".join(f"{name} {before.get(name)!r}, now {wanted.get(name)!r}" for name in names)
            raise ProtocolError(f"{folder} holds results of other settings ({listed}); choose another folder")

    def weights(self, name: str, items: Sequence[Item], make: Callable[[], bytes], *, say: Say) -> Weights:
        """The weights of a training, made when they are first needed, unless they are there."""
        key = digest_items(items)
        path = self.folder / "weights" / f"{file_name(name)}-{key[:12]}.safetensors"

        def load() -> bytes:
            if not path.exists():
                say(f"train {name} on {len(items)} images")
                write_atomically(path, make())
            return path.read_bytes()

        return Weights(key, load)

    def figures(
        self,
        name: str,
        items: Sequence[Item],
        weights: Weights,
        test: Callable[[bytes], Mapping[str, Any]],
        *,
        say: Say,
    ) -> dict[str, Any]:
        """The figures of a test, made unless they are there, of the same training and the same images."""
        key = f"{weights.key} {digest_items(items)}"
        path = self.folder / "cells" / f"{file_name(name)}.json"
        if (before := read_json(path)) is not None and before.get("key") == key:
            figures: dict[str, Any] = before["figures"]
            return figures
        data = weights.load()
        say(f"test {name} on {len(items)} images")
        figures = dict(test(data))
        write_atomically(path, to_json({"name": name, "key": key, "figures": figures}).encode())
        return figures


def digest_items(items: Sequence[Item]) -> str:
    """SHA-256 of names, prompts and sizes of files: another when images were added or replaced since."""
    digest = hashlib.sha256()
    for item in items:
        row = [item.name, item.mask.name, item.prompt, item.image.stat().st_size, item.mask.stat().st_size]
        digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write the file whole or not at all. Raises OSError when it cannot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def to_json(value: object) -> str:
    """JSON as written to files. Raises ValueError for NaN and infinity, which are none."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> dict[str, Any] | None:
    """A file that cannot be read is as good as none: what it held is made again."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        log.warning("%s cannot be read (%s): it is made again", path, error)
        return None
    return found if isinstance(found, dict) else None


def file_name(name: str) -> str:
    """A name as a file may be called on every system."""
    # The digest keeps names apart that differ in other characters alone.
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
