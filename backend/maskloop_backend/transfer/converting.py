"""The one place where imports touch the conversion of files that a browser cannot show."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from maskloop_backend.transfer import Refused, WrongCall
from maskloop_learner.convert.convert import convert_file
from maskloop_learner.convert.kinds import sniff_kind
from maskloop_learner.convert.options import DEFAULTS, Axis, ConvertError, ConvertOptions, Rename
from maskloop_learner.pool.masks import Mask
from maskloop_learner.settings import Settings

Options = ConvertOptions
PLACE = ("axis", "volume", "frame")
"""Fields of an origin that tell the pictures of one file apart."""


@dataclass(frozen=True)
class Converted:
    """A picture made from a file, and its place in it (empty: it is the only one)."""

    name: str
    data: bytes
    width: int
    height: int
    origin: dict[str, Any]
    digest: str
    """sha256 of the file."""

    @property
    def key(self) -> str:
        """What identifies it: the file's digest and the place in it."""
        return ":".join([self.digest, *(str(self.origin[name]) for name in PLACE if self.origin.get(name) is not None)])


def convert(path: Path, options: Options) -> Iterator[Converted]:
    """The pictures of a file. Raises Refused, also half-way."""
    try:
        for made in convert_file(path, options=options):
            yield Converted(made.name, made.data, made.width, made.height, made.origin, made.origin["sha256"])
    except ConvertError as error:
        raise Refused(str(error)) from error


def is_volume(path: Path) -> bool:
    """Whether a mask file is a NIfTI volume of labels."""
    try:
        return sniff_kind(path) == "NIfTI"
    except OSError as error:
        raise Refused(f"{path.name}: cannot be read ({error.strerror or error})") from error


def volume_masks(
    path: Path, image: Path, label: str | None, values: Mapping[int, str], options: Options
) -> Iterator[Mapping[str, Mask]]:
    """The masks of a volume's slices, in the order of its image's pictures. Raises Refused.

    label: what all that is not 0 is; None: `values` tells (number -> label, "" to leave it out).
    """
    from maskloop_learner.convert.masks import convert_mask, label_values

    if not is_volume(image):
        raise Refused(
            f"{path.name}: is a NIfTI volume, {image.name} is not: how the two lie on each other is not known; give "
            "the masks as PNG, NAME.png or NAME-1.png, NAME-2.png, ..."
        )
    try:
        if label is not None:
            yield from ({label: mask} for _, mask in convert_mask(path, image=image, options=options))
            return
        unknown = [value for value in label_values(path, options=options) if value not in values]
        if unknown:
            raise Refused(f"{path.name}: has the value {unknown[0]}, which --values gives no label")
        wanted = [value for value, name in values.items() if name]
        streams = [convert_mask(path, image=image, value=value, options=options) for value in wanted]
        for planes in zip(*streams, strict=True):
            masks: dict[str, Mask] = {}
            for value, (_, mask) in zip(wanted, planes, strict=True):
                name = values[value]
                masks[name] = masks[name] | mask if name in masks else mask
            yield masks
    except ConvertError as error:
        raise Refused(str(error)) from error


def read_options(
    settings: Settings,
    *,
    window: str | None,
    percentiles: str | None,
    axis: str,
    every: int,
    strip: bool,
    rename: str | None,
    burned_in: bool,
) -> Options:
    """What was typed of how files become pictures. Raises WrongCall."""
    edges = _two_numbers("--window", "centre and width, as 40,400", window)
    shares = _two_numbers("--percentiles", "two shares in 0..100, as 0.5,99.5", percentiles)
    try:
        return ConvertOptions(
            window=edges,
            percentiles=shares or DEFAULTS.percentiles,
            axis=cast(Axis, axis),
            every=every,
            strip=strip,
            rename=cast(Rename | None, rename),
            allow_burned_in=burned_in,
            max_megapixels=settings.max_image_megapixels,
        )
    except ConvertError as error:
        raise WrongCall(str(error)) from error


def _two_numbers(option: str, what: str, text: str | None) -> tuple[float, float] | None:
    try:
        first, second = (None, None) if text is None else (float(part) for part in text.split(","))
    except ValueError as error:
        raise WrongCall(f"{option} must be {what}; got {text!r}") from error
    return None if first is None or second is None else (first, second)
