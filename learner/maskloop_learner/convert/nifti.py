"""A NIfTI volume: its header, its voxels, and how they lie in the patient.

nibabel reads the header. The voxels are mapped or unpacked here, after the header's promises were compared with
the file's size, and the header's extensions, which may hold a whole DICOM header, are never looked at.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.convert.intensity import Values
from maskloop_learner.convert.kinds import GZIP, read_head, unpacked_head
from maskloop_learner.convert.options import ConvertError, ConvertOptions
from maskloop_learner.convert.source import damage_named

_MOST_PACKED = 1040
"""A gzip file holds at most about this many times its size."""
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Volume:
    """Voxels as stored, turned so that they grow to the right, to the front and to the top (RAS)."""

    voxels: NDArray[Any]
    """[X, Y, Z, T], of the file's type; colours are structured, with fields R, G, B."""
    affine: NDArray[np.float64]
    """[4, 4]: voxel (after turning) to millimetres."""
    slope: float
    intercept: float
    stored: str
    """Orientation in the file, such as LPS."""
    known: bool
    """Whether the file says how it lies; else it is taken as the format's default, LAS."""
    oblique: float
    """Degrees by which the slices lean from the patient's axes."""

    @property
    def coloured(self) -> bool:
        """Whether voxels are RGB."""
        return self.voxels.dtype.names is not None

    def values(self, voxels: NDArray[Any]) -> Values:
        """Stored numbers in the file's unit, float64, same shape."""
        return voxels.astype(np.float64) * self.slope + self.intercept


def read_volume(path: Path, options: ConvertOptions) -> Volume:
    """Read a .nii or .nii.gz file, whatever it is called.

    Raises ConvertError when it is damaged, too large, one half of a pair, or holds no numbers or colours.
    """
    from nibabel.orientations import aff2axcodes, apply_orientation, inv_ornt_aff, io_orientation
    from nibabel.spatialimages import HeaderDataError

    packed = read_head(path).startswith(GZIP)
    with damage_named(path.name, "NIfTI header", others=(HeaderDataError,)), np.errstate(all="ignore"):
        header = _read_header(path, packed)
        shape = _check_shape(header, path, packed, options)
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
        turn = io_orientation(affine) if np.isfinite(affine).all() else np.full((3, 2), np.nan)
        if np.isnan(turn).any():
            raise ConvertError(f"{path.name}: it does not say how its voxels lie; write it again with an affine")
        slope, intercept = header.get_slope_inter()
        known = int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0
        stored = "".join(aff2axcodes(affine))
    with damage_named(path.name, "NIfTI file"):
        voxels = _read_voxels(path, packed, header, shape)
        turned = apply_orientation(voxels, turn)
        affine = affine @ inv_ornt_aff(turn, shape[:3])
    return Volume(
        voxels=turned,
        affine=affine,
        slope=1.0 if slope is None else float(slope),
        intercept=0.0 if intercept is None else float(intercept),
        stored=stored,
        known=known,
        oblique=_oblique(affine),
    )


def _read_header(path: Path, packed: bool) -> Any:
    """nibabel's header of the first bytes; the checks that nibabel makes are made."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    head = unpacked_head(path) if packed else read_head(path)
    if head[344:347] == b"ni1" or head[4:7] == b"ni2":
        raise ConvertError(f"{path.name}: one half of a pair (.hdr and .img); write the two as one .nii file")
    kind, size = (Nifti2Header, 540) if head[4:7] == b"n+2" else (Nifti1Header, 348)
    if len(head) < size:
        raise EOFError(f"{len(head)} bytes")
    header = kind(head[:size], check=False)
    # Not its own endian guess alone: dim[0] tells, and a wild one is damage.
    header.get_data_dtype()
    return header


def _check_shape(header: Any, path: Path, packed: bool, options: ConvertOptions) -> tuple[int, int, int, int]:
    """[X, Y, Z, T]. Raises ConvertError when it is none, too large, or more than the file can hold."""
    told = tuple(int(size) for size in header.get_data_shape())
    shape = (*told, 1, 1, 1, 1)[:4] if len(told) < 4 else told[:4]
    if not told or min(told) < 1 or any(size != 1 for size in told[4:]):
        raise ConvertError(f"{path.name}: its shape is {told!r}; volumes of 2, 3 or 4 dimensions are read")
    dtype, offset = header.get_data_dtype(), float(header["vox_offset"])
    if dtype.kind not in "iufV" or (dtype.kind == "V" and dtype.names is None):
        raise ConvertError(f"{path.name}: voxels of type {dtype} are not read; write it with real numbers")
    if not 0 <= offset < 2**40:
        raise ConvertError(f"{path.name}: it says that its voxels begin at {offset:g}; write it again")
    needed = offset + float(np.prod([float(size) for size in shape])) * dtype.itemsize
    if needed > options.max_megabytes * 1e6:
        raise ConvertError(
            f"{path.name}: {shape!r} voxels are {needed / 1e6:.1f} megabytes, over the limit of "
            f"{options.max_megabytes:g}; cut it into smaller volumes or raise the limit"
        )
    held = path.stat().st_size * (_MOST_PACKED if packed else 1)
    if needed > held:
        raise ConvertError(f"{path.name}: {shape!r} voxels need {needed:.0f} bytes; it is cut short, copy it again")
    return cast(tuple[int, int, int, int], shape)


def _read_voxels(path: Path, packed: bool, header: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Voxels [X, Y, Z, T] as stored. Raises EOFError when the file ends before."""
    dtype, offset = header.get_data_dtype(), int(header["vox_offset"])
    if not packed:
        return np.memmap(path, dtype, "r", offset, shape, order="F")
    needed, data = int(np.prod(shape)) * dtype.itemsize, bytearray()
    with gzip.open(path) as file:
        if len(file.read(offset)) < offset:
            raise EOFError("it ends before its voxels")
        while len(data) < needed:
            chunk = file.read(min(_CHUNK, needed - len(data)))
            if not chunk:
                raise EOFError(f"{len(data)} of {needed} bytes")
            data += chunk
    return np.frombuffer(data, dtype).reshape(shape, order="F")


def _oblique(affine: NDArray[np.float64]) -> float:
    """Degrees by which the worst axis leans."""
    from nibabel.affines import obliquity

    return round(float(np.degrees(np.max(obliquity(affine)))), 3)


def nifti_suffix(path: Path) -> str:
    """.nii.gz for a packed file, .nii for another."""
    return ".nii.gz" if read_head(path).startswith(GZIP) else ".nii"
