"""Numbers and terms out of a DICOM data set, whatever stands there."""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_TERMS = (
    "AR AS BDUS BI BMD CD CF CP CR CS CT DD DG DM DX EC EMG EOG EPS ES FA FID FS GM HC IO IVOCT IVUS KER LEN LP LS "
    "MA MG MR MS NM OAM OCT OP OPM OPT OPTENF OPV OT PA PT PX REG RF RG RTDOSE RTIMAGE SM ST TG US VA VF XA XC"
)
MODALITIES = frozenset(_TERMS.split())
"""Terms of Modality (DICOM PS3.3, C.7.3.1.1.1); any other is dropped."""
UNITS = frozenset(("OD", "HU", "US", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT"))
"""Terms of Rescale Type (DICOM PS3.3, C.11.1.1.2)."""
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def numbers(dataset: "Dataset", keyword: str) -> list[float]:
    """The numbers of a tag, empty when it is missing or empty. Raises ValueError for anything else than numbers."""
    value: Any = dataset.get(keyword)
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    values = list(value) if isinstance(value, (list, tuple)) or hasattr(value, "append") else [value]
    try:
        found = [float(one) for one in values]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{keyword} holds no number") from error
    if not all(map(math.isfinite, found)):
        raise ValueError(f"{keyword} holds a number that is not finite")
    return found


def number(dataset: "Dataset", keyword: str) -> float | None:
    """The first number of a tag, None when it is missing or empty. Raises ValueError like numbers."""
    return next(iter(numbers(dataset, keyword)), None)


def whole(dataset: "Dataset", keyword: str, default: int | None = None) -> int:
    """The whole number of a tag. Raises ValueError when there is none, or it has a fraction."""
    value = number(dataset, keyword)
    if value is None and default is not None:
        return default
    if value is None or value != int(value):
        raise ValueError(f"{keyword} is missing" if value is None else f"{keyword} is no whole number")
    return int(value)


def facts(dataset: "Dataset", keyword: str, count: int) -> list[float] | None:
    """`count` numbers that change no pixel, for an origin; None when they are missing or something else."""
    try:
        found = numbers(dataset, keyword)
    except ValueError:
        return None
    return found if len(found) == count else None


def term(dataset: "Dataset", keyword: str) -> str:
    """A coded term, upper case; empty when it is missing or several."""
    value = dataset.get(keyword)
    return value.strip().upper() if isinstance(value, str) else ""


def fixed(dataset: "Dataset", keyword: str, terms: frozenset[str]) -> str | None:
    """A term of a fixed list; None for any other, which may be anything."""
    found = term(dataset, keyword)
    return found if found in terms else None


def group(dataset: "Dataset", frame: int, keyword: str) -> "Dataset":
    """What holds a frame's values: its own functional group, that of all frames, or the data set itself."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for holder in [*per_frame[frame : frame + 1], *shared[:1]]:
        items = holder.get(keyword)
        if items:
            found: Dataset = items[0]
            return found
    return dataset
