"""Stored values of a grey DICOM frame become what a viewer shows (DICOM PS3.3, C.11.1, C.11.2; PS3.4, N.2).

Modality LUT or rescale, then VOI LUT or window, then MONOCHROME1 turned round; padding is black.
"""

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.convert.dicom_values import FUNCTIONS, UNITS, fixed, group, number, numbers, term, whole
from maskloop_learner.convert.intensity import Function, Range, Values, Window
from maskloop_learner.convert.options import ConvertError, ConvertOptions

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


class Table(NamedTuple):
    """A lookup table: entries, the value of the first, and how many bits an entry has."""

    entries: NDArray[np.int64]
    first: int
    bits: int

    def look_up(self, values: Values) -> Values:
        """Entries of values, same shape; below the first value its entry, above the last that."""
        places = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.int64)
        return np.asarray(self.entries[places], dtype=np.float64)

    def apply(self, values: Values) -> Values:
        """Shares 0..1 of white."""
        return self.look_up(values) / ((1 << self.bits) - 1)


class Rescale(NamedTuple):
    """What turns stored values into the file's unit."""

    slope: float
    intercept: float
    unit: str | None
    table: Table | None = None

    def apply(self, stored: NDArray[Any]) -> Values:
        """Values in the file's unit, float64, same shape."""
        if self.table is not None:
            return self.table.look_up(stored.astype(np.float64))
        return stored.astype(np.float64) * self.slope + self.intercept

    def as_json(self) -> dict[str, Any]:
        """For an origin."""
        return {"slope": self.slope, "intercept": self.intercept, "unit": self.unit, "table": self.table is not None}


def find_rescale(tags: "Dataset", frame: int) -> Rescale:
    """A frame's Modality LUT or rescale; 1 and 0 where there is none. Raises ValueError when it is damaged."""
    holder = group(tags, frame, "PixelValueTransformationSequence")
    if tables := tags.get("ModalityLUTSequence"):
        return Rescale(1.0, 0.0, None, read_table(tables[0], tags, signed=_signed(tags)))
    slope, intercept = number(holder, "RescaleSlope"), number(holder, "RescaleIntercept")
    if slope == 0:
        raise ValueError("RescaleSlope is 0, which makes all values one")
    unit = fixed(holder, "RescaleType", UNITS)
    return Rescale(1.0 if slope is None else slope, 0.0 if intercept is None else intercept, unit)


def find_shown(
    tags: "Dataset", frame: int, rescale: Rescale, options: ConvertOptions, *, name: str
) -> Window | Table | Range | None:
    """How a frame is to be shown: as asked for, by its table, its first window, or all its 8 bits.

    None: it does not say, and percentiles decide. Raises ConvertError for a window that is none, ValueError when
    what it says is damaged; name: the file, for messages.
    """
    if options.window is not None:
        return Window(centre=options.window[0], width=options.window[1])
    holder = group(tags, frame, "FrameVOILUTSequence")
    if tables := holder.get("VOILUTSequence"):
        return read_table(tables[0], tags, signed=_limits(tags, rescale)[0] < 0)
    centres, widths = numbers(holder, "WindowCenter"), numbers(holder, "WindowWidth")
    if centres and widths:
        function = term(holder, "VOILUTFunction") or "LINEAR"
        if function not in FUNCTIONS:
            raise ConvertError(f"{name}: its window is none of {', '.join(FUNCTIONS)}; give a window of your own")
        known, count = cast(Function, function), min(len(centres), len(widths))
        try:
            return Window(centre=centres[0], width=widths[0], function=known, source="file", alternatives=count)
        except ValueError as error:
            raise ConvertError(f"{name}: {error}; give a window of your own") from error
    return Range(*_limits(tags, rescale)) if whole(tags, "BitsStored") <= 8 else None


def find_padding(tags: "Dataset", stored: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Where a frame is no picture, [H, W]; None when the file does not say."""
    value, limit = number(tags, "PixelPaddingValue"), number(tags, "PixelPaddingRangeLimit")
    if value is None:
        return None
    bits = whole(tags, "BitsAllocated")
    # Some files write a negative padding as if it had no sign.
    ends = [
        end - 2**bits if _signed(tags) and end >= 2 ** (bits - 1) else end
        for end in (value, value if limit is None else limit)
    ]
    return np.asarray((stored >= min(ends)) & (stored <= max(ends)))


def read_table(item: "Dataset", tags: "Dataset", *, signed: bool) -> Table:
    """A LUT item. Raises ValueError when it is damaged, or has fewer entries than it says."""
    described = numbers(item, "LUTDescriptor")
    if len(described) != 3:
        raise ValueError("LUTDescriptor has not three numbers")
    count, first, bits = (int(value) for value in described)
    count, first = count or 65536, first - 65536 if signed and first >= 32768 else first
    data = item.get("LUTData")
    if isinstance(data, bytes):
        little = tags.file_meta.TransferSyntaxUID.is_little_endian
        kind = "u1" if bits <= 8 and len(data) < 2 * count else "<u2" if little else ">u2"
        entries = np.frombuffer(data[: len(data) // np.dtype(kind).itemsize * np.dtype(kind).itemsize], kind)
    else:
        entries = np.array(numbers(item, "LUTData"))
    if len(entries) < count or not 1 <= bits <= 16:
        raise ValueError(f"a lookup table says {count} entries of {bits} bits, and holds {len(entries)}")
    return Table(entries[:count].astype(np.int64), first, bits)


def _signed(tags: "Dataset") -> bool:
    return whole(tags, "PixelRepresentation", 0) == 1


def _limits(tags: "Dataset", rescale: Rescale) -> tuple[float, float]:
    """The least and the greatest value that the stored bits can hold, in the file's unit."""
    if rescale.table is not None:
        return 0.0, 2.0**rescale.table.bits - 1
    bits = whole(tags, "BitsStored")
    low = -(2 ** (bits - 1)) if _signed(tags) else 0
    ends = rescale.apply(np.array([low, low + 2**bits - 1]))
    return float(ends.min()), float(ends.max())
