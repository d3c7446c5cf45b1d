"""What a conversion may be told, and how it refuses."""

import math
from dataclasses import dataclass
from typing import Literal

Axis = Literal["axial", "coronal", "sagittal"]
Rename = Literal["keep", "digest"]


class ConvertError(ValueError):
    """A file that cannot be converted; the message names the file, what is wrong and what to do."""


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """How files become pictures. Raises ConvertError for a value out of range."""

    window: tuple[float, float] | None = None
    """Centre and width of the grey values that are shown, in the file's units; wins over the file's own window."""
    percentiles: tuple[float, float] = (0.5, 99.5)
    """What is black and what is white where neither the file nor `window` says it: deep TIFF, NIfTI, DICOM."""
    axis: Axis = "axial"
    """The slices of a NIfTI volume."""
    every: int = 1
    """Take each n-th frame, page or slice."""
    frames: tuple[int, int] | None = None
    """First and last frame, page or slice, counted from 1."""
    volume: int | None = None
    """One volume of a 4-D NIfTI, counted from 1; None: all of them."""
    rename: Rename | None = None
    """keep: named after the file; digest: after its sha256; None: digest for DICOM, keep for the rest."""
    allow_burned_in: bool = False
    """Take DICOM images whose pixels are said to hold the patient's name or the like."""
    strip: bool = False
    """Write PNG, JPEG, WebP and BMP anew, as PNG, so that nothing but their pixels leaves."""
    max_megapixels: float = 100.0
    """Larger pictures are refused before they are decoded."""
    max_megabytes: float = 4096.0
    """Larger files, and volumes that unpack to more, are refused before they are read."""

    def __post_init__(self) -> None:
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ConvertError(f"percentiles are {self.percentiles!r}; give two that rise, in 0..100")
        if self.window is not None and not (all(map(math.isfinite, self.window)) and self.window[1] > 0):
            raise ConvertError(f"the window is {self.window!r}; give a centre and a width above 0")
        if self.every < 1:
            raise ConvertError(f"every is {self.every!r}; give 1 or more")
        if self.frames is not None and not 1 <= self.frames[0] <= self.frames[1]:
            raise ConvertError(f"frames are {self.frames!r}; give a first and a last one, counted from 1")
        if self.volume is not None and self.volume < 1:
            raise ConvertError(f"volume is {self.volume!r}; volumes are counted from 1")
        if self.axis not in ("axial", "coronal", "sagittal"):
            raise ConvertError(f"axis is {self.axis!r}; give axial, coronal or sagittal")
        if self.rename not in (None, "keep", "digest"):
            raise ConvertError(f"rename is {self.rename!r}; give keep or digest")

    def chosen(self, count: int, *, name: str) -> range:
        """Numbers from 0 of the frames to take out of `count`. Raises ConvertError when there is none."""
        first, last = self.frames or (1, count)
        chosen = range(first - 1, min(last, count), self.every)
        if not chosen:
            raise ConvertError(f"{name}: frames {first}..{last} are asked for, it has {count}; change the frames")
        return chosen


DEFAULTS = ConvertOptions()
