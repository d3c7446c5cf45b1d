"""What a file is, by its first bytes."""

import gzip
import struct
import zlib
from pathlib import Path
from typing import Literal

from maskloop_learner.pool.images import sniff_format

Kind = Literal["picture", "TIFF", "DICOM", "NIfTI"]
_HEAD = 544
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_VALUE_KINDS = (b"CS", b"UI", b"UL", b"SH", b"LO", b"DA", b"TM", b"DT", b"ST", b"SQ")
GZIP = b"\x1f\x8b"


def read_head(path: Path) -> bytes:
    """The first bytes of a file. Raises OSError when it cannot be read."""
    with path.open("rb") as file:
        return file.read(_HEAD)


def unpacked_head(path: Path) -> bytes:
    """The first bytes of what a gzip file holds, empty when it is none."""
    try:
        with gzip.open(path) as file:
            return file.read(_HEAD)
    except (EOFError, OSError, zlib.error):
        return b""


def sniff_kind(path: Path) -> Kind | None:
    """The format of a file whatever it is called, None for any other. Raises OSError when it cannot be read."""
    head = read_head(path)
    # DICOM first: its preamble may look like a TIFF, as whole slide images use it.
    if head[128:132] == b"DICM":
        return "DICOM"
    if head[:4] in _TIFF:
        return "TIFF"
    if sniff_format(head) is not None:
        return "picture"
    if is_nifti(unpacked_head(path) if head.startswith(GZIP) else head):
        return "NIfTI"
    return "DICOM" if _is_bare_dicom(head) else None


def is_nifti(head: bytes) -> bool:
    """Whether a header of NIfTI-1 or NIfTI-2 stands here, of one file or of a pair."""
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0")


def _is_bare_dicom(head: bytes) -> bool:
    """Whether a data set begins here without the preamble: an early tag of group 8 with a likely value."""
    if len(head) < 8:
        return False
    for order in "<>":
        group, element, length = struct.unpack(f"{order}HHI", head[:8])
        if group == 8 and element < 0x70 and (head[4:6] in _VALUE_KINDS or length <= 64):
            return True
    return False
