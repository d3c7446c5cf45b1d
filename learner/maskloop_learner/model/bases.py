"""The frozen towers of the published backbones, kept once per installation and named by their digest.

    <folder>/<backbone>/<digest>.safetensors    the towers, under open_clip's names
    <folder>/<backbone>/base.json               which of them new trainings start from, and where it is from
    <folder>/<backbone>/vocab.txt               of a BERT, with the two files that its tokenizer is built from

A digest is of the values: names, shapes and float32 numbers in the order of the names. The same towers have the
same digest from whatever file they come, in half precision or full.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from maskloop_learner.model.backbones import BACKBONES, BackboneError, BackboneSpec
from maskloop_learner.model.faults import list_faults, say_faults
from maskloop_learner.model.files import digest_file, write_whole
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.model.tower_files import UNUSED, read_towers, tower_shapes
from maskloop_learner.model.vocabulary import FILE, keep_vocabulary

__all__ = ["BackboneError", "Base", "Bases", "Installed", "digest_towers"]


@dataclass(frozen=True, kw_only=True)
class Base:
    """Where towers are from."""

    digest: str
    source: str
    """A file's path, or the repository and file on the hub."""
    revision: str | None
    """Commit on the hub."""
    source_sha256: str | None
    """Of the source file's bytes."""
    licence: str
    added: str
    """UTC, ISO 8601."""


@dataclass(frozen=True, kw_only=True)
class Installed:
    """What the folder has of one backbone."""

    backbone: str
    digests: tuple[str, ...]
    base: Base | None
    """Those that new trainings start from."""
    vocabulary: bool


class Bases:
    """A folder of backbone weights. Files appear whole or not at all; writing the same towers twice is harmless."""

    def __init__(self, folder: Path | None) -> None:
        """None: no folder, so every `build` fails with the command that fetches weights."""
        self.folder = folder

    def build(self, spec: BackboneSpec, *, digest: str | None = None, seed: int = 0) -> MedCLIPSeg:
        """A model on the towers with this digest (None: the ones new trainings start from), the rest from `seed`.

        The values are checked against the digest once per process and state of the file. No network is asked.
        Raises BackboneError when the towers are not in the folder or were altered.
        """
        path = self.find(spec, digest)
        tensors = load_towers(path)
        bert = spec.text == "bert"
        model = MedCLIPSeg(spec, seed=seed, vocabulary=path.parent if bert else None)
        with torch.no_grad():
            for name, parameter in model.clip.named_parameters():
                if name not in UNUSED:
                    parameter.copy_(tensors[name])
        model.forget_towers()
        model.base = path.stem
        return model

    def build_named(self, spec: BackboneSpec, base: str) -> MedCLIPSeg:
        """A model on the towers that a weights file names: a digest, or `random:SEED`. Raises as `build` does."""
        if spec.trains == "all" or base.startswith("random:"):
            return MedCLIPSeg(spec, seed=int(base.removeprefix("random:")) if spec.trains == "adapters" else 0)
        return self.build(spec, digest=base)

    def find(self, spec: BackboneSpec, digest: str | None = None) -> Path:
        """The towers' file. Raises BackboneError naming what is missing, where, and the command that fetches it."""
        if spec.source is None:
            raise BackboneError(f"backbone {spec.name!r} has no towers apart: its weights files hold the whole model")
        where = f"the folder of backbones {self.folder}" if self.folder else "no folder of backbones is set"
        command = f"fetch them with: maskloop models fetch {spec.name} (or --from PATH without a network)"
        if digest is None:
            base = self.base(spec)
            if base is None:
                raise BackboneError(f"the weights of backbone {spec.name!r} are not in {where}; {command}")
            digest = base.digest
        path = self.path(spec, digest)
        if path is None or not path.is_file():
            raise BackboneError(
                f"the weights of backbone {spec.name!r} with digest {digest} are not in {where}; {command}, "
                "or, if they came with an imported checkpoint, import it again"
            )
        return path

    def add(
        self,
        spec: BackboneSpec,
        tensors: Mapping[str, Tensor],
        *,
        source: str,
        revision: str | None = None,
        source_sha256: str | None = None,
        start: bool = True,
    ) -> str:
        """Keep towers, under open_clip's names; return their digest.

        `start`: new trainings start from them; False leaves that to what is there, if anything is. Raises
        BackboneError listing the missing, unknown, mis-shaped and non-finite tensors.
        """
        if self.folder is None or spec.source is None:
            raise BackboneError(f"there is nowhere to keep towers of backbone {spec.name!r} (folder: {self.folder})")
        faults = list_faults(tower_shapes(spec), tensors)
        if faults:
            raise BackboneError(f"{source} does not hold backbone {spec.name!r}: {say_faults(faults)}")
        digest = digest_towers(tensors)
        path = self.folder / spec.name / f"{digest}.safetensors"
        if not is_intact(path):
            write_whole(path, lambda part: save_file(shrink(tensors), part))
        if start or self.base(spec) is None:
            base = Base(
                digest=digest,
                source=source,
                revision=revision,
                source_sha256=source_sha256,
                licence=spec.licence,
                added=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            text = json.dumps(asdict(base), indent=2)
            write_whole(self.folder / spec.name / "base.json", lambda part: part.write_text(text))
        return digest

    def add_file(
        self, spec: BackboneSpec, path: Path, *, source: str | None = None, revision: str | None = None
    ) -> str:
        """Keep the towers of a published file, see `tower_files`; return their digest."""
        tensors = read_towers(spec, path)
        return self.add(spec, tensors, source=source or str(path), revision=revision, source_sha256=digest_file(path))

    def add_vocabulary(self, spec: BackboneSpec, path: Path) -> None:
        """Keep a BERT's vocab.txt (or the one in a folder) with what its tokenizer needs beside it."""
        if self.folder is None:
            raise BackboneError("there is no folder of backbones to keep a vocabulary in")
        keep_vocabulary(spec, path, self.folder / spec.name)

    def path(self, spec: BackboneSpec, digest: str) -> Path | None:
        """Where towers with this digest are or would be."""
        # The digest may come from a weights file of anybody: it must not lead out of the folder.
        plain = len(digest) == 64 and set(digest) <= set("0123456789abcdef")
        return self.folder / spec.name / f"{digest}.safetensors" if self.folder and plain else None

    def base(self, spec: BackboneSpec) -> Base | None:
        """The towers that new trainings start from; None when none were added."""
        path = self.folder / spec.name / "base.json" if self.folder else None
        if path is None or not path.is_file():
            return None
        try:
            return Base(**json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise BackboneError(
                f"{path} was altered ({error}); write it anew with: maskloop models fetch {spec.name}"
            ) from error

    def list(self) -> tuple[Installed, ...]:
        """What the folder has, for every backbone whose weights are fetched."""
        return tuple(
            Installed(
                backbone=spec.name,
                digests=tuple(sorted(p.stem for p in self.folder.glob(f"{spec.name}/*.safetensors")))
                if self.folder
                else (),
                base=self.base(spec),
                vocabulary=bool(self.folder and (self.folder / spec.name / FILE).is_file()),
            )
            for spec in BACKBONES.values()
            if spec.source is not None
        )


def digest_towers(tensors: Mapping[str, Tensor]) -> str:
    """sha256 of names, shapes and values as float32, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].float().contiguous()
        digest.update(f"{name} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).numpy().data)
    return digest.hexdigest()


def shrink(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """In half precision where that loses nothing, which is half the disk for weights published so."""
    halves = {name: x.half() for name, x in tensors.items()}
    return {
        name: (h if torch.equal(h.float(), tensors[name]) else tensors[name].contiguous()) for name, h in halves.items()
    }


def load_towers(path: Path) -> dict[str, Tensor]:
    """The towers in a file of the folder, mapped. Raises BackboneError when its values have another digest."""
    try:
        state = path.stat()
        found = digest_of(path, state.st_size, state.st_mtime_ns, state.st_ino)
    except SafetensorError as error:
        raise BackboneError(f"{path} is damaged ({error}); delete it and fetch the backbone again") from error
    if found != path.stem:
        raise BackboneError(f"{path} was altered: its digest is {found}; delete it and fetch the backbone again")
    tensors: dict[str, Tensor] = load_file(path)
    return tensors


@lru_cache(maxsize=32)
def digest_of(path: Path, size: int, mtime_ns: int, inode: int) -> str:
    """The digest of the towers in a file; computed again when the file changed."""
    return digest_towers(load_file(path))


def is_intact(path: Path) -> bool:
    """Whether the file is there and holds what its name says."""
    if not path.is_file():
        return False
    try:
        load_towers(path)
    except BackboneError:
        return False
    return True
