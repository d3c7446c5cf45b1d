"""Labelled images that a command is given: two folders, or a split of a data set."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from maskloop_backend.cli.errors import CommandError
from maskloop_learner.data.files import ItemError, fit_mask
from maskloop_learner.data.findings import Finding
from maskloop_learner.data.layout import Dataset, Split, Variant
from maskloop_learner.evaluate.model import read_case
from maskloop_learner.evaluate.run import Case
from maskloop_learner.pool.images import ImageError, open_image
from maskloop_learner.pool.masks import MaskError, decode_mask


@dataclass(frozen=True)
class Source:
    """Images by name, read one after the other."""

    title: str
    about: dict[str, Any]
    names: Sequence[str]
    read_one: Callable[[str], Case]
    """Raises ItemError when it cannot be read."""
    findings: Sequence[Finding] = ()
    """Of rows that gave no image."""
    check: Callable[[Sequence[str]], None] = lambda names: None
    """Raises CommandError before the first is read."""
    unread: list[Finding] = field(default_factory=list)
    """Of images that could not be read; grows while reading."""

    def choose(self, *, only: Path | None, limit: int | None) -> "Source":
        """The images named in a text file, and of these `limit` at even steps. Raises CommandError for none."""
        names = list(self.names)
        if only is not None:
            wanted = {line.strip() for line in only.read_text().splitlines()} - {""}
            if missing := sorted(wanted - set(names)):
                more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
                raise CommandError(f"{only} names {missing[0]!r}{more}: not among the images of {self.title}")
            names = [name for name in names if name in wanted]
        if not names:
            why = f": {self.findings[0].message}" if self.findings else ""
            raise CommandError(f"there is no image to evaluate on in {self.title}{why}")
        if limit is not None and limit < len(names):
            names = [names[place * len(names) // limit] for place in range(limit)]
        self.check(names)
        return replace(self, names=names)

    def read(self, on_image: Callable[[], None]) -> Iterator[Case]:
        """All that can be read, in order; `on_image` is called after each that was dealt with."""
        for name in self.names:
            try:
                yield self.read_one(name)
            except ItemError as error:
                self.unread.append(Finding("unreadable", str(error), name=name))
            on_image()


def take_dataset(dataset: Dataset, split: str, variant: str, *, label: str, prompt: str | None) -> Source:
    """A split of a data set, asked for by its rows' prompts or by `prompt`. Raises DataError."""
    part = dataset.read(cast(Split, split), prompts=cast(Variant, variant))
    items = {item.name: item for item in part.items}
    asked = variant.replace("_", " ") + " prompts" if prompt is None else f'"{prompt}"'
    return Source(
        title=f"{dataset.name} \u00b7 {split} \u00b7 {asked}",
        about={"dataset": str(dataset.root), "split": split, "prompts": variant, "prompt": prompt},
        names=list(items),
        read_one=lambda name: read_case(items[name], label=label, prompt=prompt),
        findings=part.findings,
    )


def take_folders(images: Path, masks: Path, *, prompts: Mapping[str, str]) -> Source:
    """A folder of images with, for each label of `prompts`, a folder of masks of the same names (or .png)."""
    names = sorted(path.name for path in images.iterdir() if path.is_file() and not path.name.startswith("."))

    def check(chosen: Sequence[str]) -> None:
        for label, text in prompts.items():
            if not text.strip():
                raise CommandError(f'label {label!r} has no prompt; give one with --prompt "{label}=..."')
            for name in chosen:
                if not find_mask(masks / label, name).exists():
                    raise CommandError(f"the mask {masks / label / name} is missing; every image needs one per label")

    def read_one(name: str) -> Case:
        try:
            image = open_image((images / name).read_bytes(), name=str(images / name))
            truth = {}
            for label in prompts:
                path = find_mask(masks / label, name)
                mask = decode_mask(path.read_bytes(), name=str(path))
                truth[label] = fit_mask(mask, image.shape[:2], name=str(path))
        except (ImageError, MaskError, OSError) as error:
            raise ItemError(str(error)) from error
        return Case(name, image, truth, prompts)

    about = {"images_folder": str(images), "masks_folder": str(masks), "prompts": dict(prompts)}
    return Source(images.absolute().name, about, names, read_one, check=check)


def find_mask(folder: Path, name: str) -> Path:
    """The mask of an image: of its name, or else of its name with .png."""
    same, png = folder / name, (folder / name).with_suffix(".png")
    return png if not same.exists() and png.exists() else same
