"""Images with masks of the same names: a folder for each label, one folder, or masks beside the images."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from maskloop_backend.labelstudio.controls import Interface
from maskloop_backend.transfer import Refused, WrongCall, converting
from maskloop_backend.transfer.converting import Options
from maskloop_backend.transfer.labels import Naming
from maskloop_backend.transfer.matching import Matcher, label_folders_of
from maskloop_backend.transfer.names import split_name
from maskloop_backend.transfer.pictures import Picture, is_shown
from maskloop_backend.transfer.rasters import read_bytes, read_mask, read_values
from maskloop_backend.transfer.sources import Entry, Labelled, Source, list_files, relative_name, unlabelled
from maskloop_learner.pool.masks import Mask


@dataclass(frozen=True)
class MaskFile:
    """A mask file and the label it is of; None: the file's numbers tell."""

    path: Path
    label: str | None
    frame: int | None = None
    """The picture of a volume that it is of, counted from 1."""


def find_pairs(images: Path, masks: Path, *, interface: Interface, naming: Naming, options: Options) -> Source:
    """The images of a folder with the masks of another (or of the same).

    A mask is called like its image: in masks/LABEL/, or with _LABEL or _mask behind the name; of a volume's
    pictures with -NUMBER. Raises TransferError for a folder that is no label, WrongCall when nothing tells the label.
    """
    inner = [masks] if masks != images and masks.is_relative_to(images) else []
    files, skipped = list_files(images, without=inner)
    found, _ = list_files(masks)
    matcher = Matcher({_key(path, images) for path in files}, interface)
    if masks == images:
        alone = {path for path in files if matcher.partner(_key(path, images))}
        files, found = [path for path in files if path not in alone], sorted(alone)
        matcher = Matcher({_key(path, images) for path in files}, interface)
    folders = label_folders_of(masks, images, interface)
    index: dict[str, list[MaskFile]] = defaultdict(list)
    lost: list[tuple[str, str]] = []
    for path in found:
        label, key = None, _key(path, masks)
        if folders:
            first, _, key = key.partition("/")
            label = folders.get(first)
            if label is None:
                lost.append((relative_name(path, masks), "lies outside the folders of the labels"))
                continue
        match = matcher.exact(key) or matcher.partner(key)
        if match is None:
            lost.append((relative_name(path, masks), "there is no image of this name"))
            continue
        label = label or match.label or (None if naming.values else _only(interface, naming))
        index[match.key].append(MaskFile(path, label, match.frame))
    entries = []
    for path in files:
        mine = tuple(index.get(_key(path, images), ()))
        label_pictures = Pairing(path, mine, naming, options) if mine else unlabelled
        entries.append(Entry(relative_name(path, images), path, label_pictures))
    return Source(f"{images.name} with masks", entries, refused=lost, skipped=skipped)


@dataclass(frozen=True)
class Pairing:
    """Gives the pictures of a file the masks of the files that belong to it."""

    image: Path
    files: tuple[MaskFile, ...]
    naming: Naming
    options: Options

    def __call__(self, pictures: Iterator[Picture]) -> Iterator[Labelled]:
        volumes = [(file, self._volume(file)) for file in self.files if converting.is_volume(file.path)]
        singles = [file for file in self.files if not any(file is volume for volume, _ in volumes)]
        for picture in pictures:
            parts = [(file, self._next(file, stream, picture)) for file, stream in volumes]
            frame = picture.origin.get("frame")
            for file in singles:
                if file.frame is None:
                    check_alone(picture, file.path.name)
                if file.frame is None or frame in (None, file.frame):
                    parts.append((file, self._single(file)))
            masks: dict[str, Mask] = {}
            for file, part in parts:
                for label, mask in part.items():
                    check_size(mask, picture, file.path.name)
                    masks[label] = np.asarray(masks[label] | mask) if label in masks else mask
            yield picture, masks if parts else None

    def _volume(self, file: MaskFile) -> Iterator[Mapping[str, Mask]]:
        return converting.volume_masks(file.path, self.image, file.label, self.naming.values, self.options)

    def _next(self, file: MaskFile, stream: Iterator[Mapping[str, Mask]], picture: Picture) -> Mapping[str, Mask]:
        part = next(stream, None)
        if part is None:
            raise Refused(f"{file.path.name}: has no mask for {picture.name}: it has fewer slices than its image")
        return part

    def _single(self, file: MaskFile) -> Mapping[str, Mask]:
        data, name = read_bytes(file.path), file.path.name
        if not is_shown(file.path):
            # A TIFF, say; its values stay what they are unless they are scaled to be seen.
            pictures = list(islice(converting.convert(file.path, self.options), 2))
            if len(pictures) > 1 or (file.label is None and pictures[0].origin.get("bits") not in (1, 8)):
                raise Refused(f"{name}: as a mask, give one 8-bit page; save it as PNG")
            data = pictures[0].data
        if file.label is None:
            return read_values(data, name, self.naming.values)
        return {file.label: read_mask(data, name)}


def check_size(mask: Mask, picture: Picture, name: str) -> None:
    """Raises Refused when a mask is not as large as its picture is shown."""
    if mask.shape != (picture.height, picture.width):
        raise Refused(
            f"{name}: the mask has {mask.shape[1]} x {mask.shape[0]} pixels, its image {picture.width} x "
            f"{picture.height} as it is shown; export the mask at the image's size"
        )


def check_alone(picture: Picture, name: str) -> None:
    """Raises Refused when a mask is one, and its image a volume of many pictures."""
    frames = picture.origin.get("frames", 1)
    if frames > 1:
        raise Refused(f"{name}: is one mask, its image has {frames} pictures; give masks NAME-1.png, NAME-2.png, ...")


def _key(path: Path, folder: Path) -> str:
    """A file's path within a folder without its suffix: what image and mask have in common."""
    inner = path.relative_to(folder)
    return (inner.parent / split_name(inner.name)[0]).as_posix()


def _only(interface: Interface, naming: Naming) -> str:
    """The label of masks that do not tell. Raises WrongCall when it is not clear."""
    if naming.label:
        return naming.label
    if len(interface.labels) == 1:
        return interface.labels[0]
    names = ", ".join(interface.labels)
    raise WrongCall(
        f"nothing tells which label the masks are of; the project has {names}. Give --label NAME for masks of one "
        "label, --values 1=NAME,2=NAME for numbers of labels, or put them into a folder for each label"
    )
