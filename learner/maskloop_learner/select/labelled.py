"""A fully labelled folder, as a simulation needs it: what an image is called, where its masks are, what is asked of it.

Masks lie in one folder under their images' names (one label), or in a folder for each label. A prompt workbook names
each image's mask and prompt instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.data import DataError
from maskloop_learner.data.files import open_item
from maskloop_learner.data.layout import Item
from maskloop_learner.data.sheets import describe_twin, read_sheet
from maskloop_learner.pool.groups import group_of, make_grouping
from maskloop_learner.prompts.location import find_location

Mask = NDArray[np.bool_]
LISTED = 3
"""Names in a message; more are counted."""


class LabelledError(DataError):
    """A folder that cannot be simulated on; the message names the files and what to do."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One image with its truth, on disk."""

    name: str
    image: Path
    masks: Mapping[str, Path]
    """Label -> file."""
    prompts: Mapping[str, str]
    """Label -> what is asked; tells no place."""
    group: str = ""
    """Patient, case or video; "" alone."""

    def items(self) -> list[Item]:
        """One for each label, in their order."""
        return [Item(self.name, self.image, path, self.prompts[label]) for label, path in self.masks.items()]

    def open(self) -> tuple[NDArray[np.uint8], dict[str, Mask]]:
        """RGB [H, W, 3] and label -> bool [H, W]. Raises ItemError naming a file that cannot be used."""
        opened = {label: open_item(item) for label, item in zip(self.masks, self.items(), strict=True)}
        image = next(iter(opened.values()))[0]
        return image, {label: mask for label, (_, mask) in opened.items()}


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """What a folder gives."""

    subjects: tuple[Subject, ...]
    """By name."""
    prompts: Mapping[str, str]
    """Label -> what is asked where an image has no prompt of its own."""
    notes: tuple[str, ...]
    """What was left out or replaced, one sentence each."""


def read_labelled(
    images: Path,
    masks: Path,
    *,
    prompts: Mapping[str, str],
    sheet: Path | None = None,
    group_pattern: str | None = None,
) -> Labelled:
    """The images of a folder that have masks.

    prompts: label -> text. Without a text for it, a label is asked for by its name. Masks right in the folder `masks`
    are of the one label in `prompts`, "lesion" where there is none; folders in it are labels. sheet: a workbook with
    each image's mask and prompt; a prompt that tells where the lesion is gives way to the label's. group_pattern: a
    regular expression whose first group is the patient in an image's name.

    Raises LabelledError when nothing fits together, GroupingError for a broken pattern, SheetError for the workbook.
    """
    grouping = make_grouping(pattern=group_pattern)
    files = list_files(images)
    if not files:
        raise LabelledError(f"{images}: there is no image in it")
    folders = sorted(path.name for path in masks.iterdir() if path.is_dir() and not path.name.startswith("."))
    if list_files(masks):
        if len(prompts) > 1:
            raise LabelledError(f"{masks}: masks of {len(prompts)} labels need a folder for each: {', '.join(prompts)}")
        labels = dict.fromkeys(prompts or ["lesion"], masks)
    else:
        labels = {label: masks / label for label in prompts or folders}
        if not labels:
            raise LabelledError(f"{masks}: there is no mask in it, nor a folder for each label")
    asked = {label: prompts.get(label, "").strip() or label.replace("_", " ") for label in labels}
    if sheet is None:
        subjects, notes = _by_name(files, labels, asked)
    else:
        subjects, notes = _by_sheet(files, labels, asked, sheet)
    found = [_group(subject, grouping) for subject in sorted(subjects, key=lambda subject: subject.name)]
    if group_pattern and not any(subject.group for subject in found):
        raise LabelledError(
            f"the group pattern {group_pattern!r} finds nothing in any name, for instance {found[0].name!r}"
        )
    return Labelled(subjects=tuple(found), prompts=asked, notes=tuple(notes))


def list_files(folder: Path) -> dict[str, Path]:
    """The files of a folder by name, in order; hidden ones are left out."""
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")}


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(repr(name) for name in names[:LISTED]) + more


def _by_name(
    files: Mapping[str, Path], labels: Mapping[str, Path], asked: Mapping[str, str]
) -> tuple[list[Subject], list[str]]:
    """Masks called as their images, whatever their suffix."""
    stems = {Path(name).stem: name for name in files}
    if len(stems) < len(files):
        twin = next(name for name in files if stems[Path(name).stem] != name)
        raise LabelledError(
            f"two images are called {Path(twin).stem!r}, so their masks cannot be told apart; rename one"
        )
    found: dict[str, dict[str, Path]] = {}
    for label, folder in labels.items():
        if not folder.is_dir():
            raise LabelledError(f"the masks of {label!r} are looked for in {folder}, which is no folder")
        mine = list_files(folder)
        if lost := [name for name in mine if Path(name).stem not in stems]:
            raise LabelledError(
                f"{folder}: {len(lost)} of {len(mine)} masks have no image of their name: {listed(lost)}; "
                "take them away, or name images and masks in a workbook (--prompts)"
            )
        for name, path in mine.items():
            of = found.setdefault(stems[Path(name).stem], {})
            if label in of:
                raise LabelledError(f"{folder}: two masks are called {Path(name).stem!r}; keep one")
            of[label] = path
    whole = {name: of for name, of in found.items() if len(of) == len(labels)}
    if not whole:
        raise LabelledError(f"no image has a mask for each of the labels {', '.join(labels)}")
    lacking = [name for name in files if name not in whole]
    notes = [f"{len(lacking)} images without masks are left out: {listed(lacking)}"] if lacking else []
    subjects = [
        Subject(name=name, image=files[name], masks={label: of[label] for label in labels}, prompts=asked)
        for name, of in whole.items()
    ]
    return subjects, notes


def _by_sheet(
    files: Mapping[str, Path], labels: Mapping[str, Path], asked: Mapping[str, str], sheet: Path
) -> tuple[list[Subject], list[str]]:
    """Masks and prompts as the workbook says."""
    if len(labels) > 1:
        raise LabelledError(f"a workbook has one mask for each image, but there are labels {', '.join(labels)}")
    label, folder = next(iter(labels.items()))
    masks, table = list_files(folder) if folder.is_dir() else {}, read_sheet(sheet)
    rows, subjects, placed = table.rows, [], 0
    for row in rows:
        if row.image not in files or row.mask not in masks:
            continue
        own = row.prompt or asked[label]
        if find_location(own, allow=label) is not None:
            own, placed = asked[label], placed + 1
        subjects.append(
            Subject(name=row.image, image=files[row.image], masks={label: masks[row.mask]}, prompts={label: own})
        )
    if not subjects:
        raise LabelledError(f"{sheet}: none of its {len(rows)} rows names an image and a mask that are there")
    notes = []
    if clashes := table.clashes:
        more = f" (and {len(clashes) - 1} more)" if len(clashes) > 1 else ""
        notes.append(f"{describe_twin(clashes[0])}{more}; the first row of an image counts")
    if unnamed := [name for name in files if name not in {row.image for row in rows}]:
        notes.append(f"{len(unnamed)} images that {sheet.name} does not name are left out: {listed(unnamed)}")
    if absent := len(rows) - len(subjects):
        notes.append(f"{absent} of {len(rows)} rows of {sheet.name} are left out: their image or mask is not there")
    if placed:
        notes.append(
            f"{placed} of {len(subjects)} prompts tell where the lesion is, which nobody knows of an image that is not "
            f"labelled; these are asked {asked[label]!r} instead"
        )
    return subjects, notes


def _group(subject: Subject, grouping: Mapping[str, str]) -> Subject:
    return replace(subject, group=group_of(grouping, data={"name": subject.name}, url=subject.name))
