"""Any image file becomes pictures that a browser shows, by what it holds and not by what it is called."""

from collections.abc import Iterator
from pathlib import Path

from maskloop_learner.convert.kinds import GZIP, Kind, read_head, sniff_kind
from maskloop_learner.convert.options import DEFAULTS, ConvertError, ConvertOptions
from maskloop_learner.convert.passing import pass_picture, picture_suffix
from maskloop_learner.convert.pictures import Picture
from maskloop_learner.convert.source import open_source
from maskloop_learner.convert.tiff import convert_tiff


def convert_file(path: Path, *, options: ConvertOptions = DEFAULTS) -> Iterator[Picture]:
    """Every picture of a PNG, JPEG, WebP, BMP, TIFF, DICOM or NIfTI file, in its own order.

    Raises ConvertError, naming the file, what is wrong and the fix, for every file that gives no picture.
    """
    try:
        kind, head = sniff_kind(path), read_head(path)
    except OSError as error:
        raise ConvertError(f"{path.name}: it cannot be read ({error.strerror}); check the path") from error
    if kind is None:
        raise ConvertError(f"{path.name}: {_describe(head)}; give PNG, JPEG, WebP, BMP, TIFF, DICOM or NIfTI")
    source = open_source(path, suffix=_suffix(kind, head), digest=kind == "DICOM", options=options)
    if kind == "picture":
        yield from pass_picture(source, options)
    elif kind == "TIFF":
        yield from convert_tiff(source, options)
    elif kind == "DICOM":
        from maskloop_learner.convert.dicom import convert_dicom

        yield from convert_dicom(source, options)
    else:
        from maskloop_learner.convert.nifti_pictures import convert_nifti

        yield from convert_nifti(source, options)


def is_convertible(path: Path) -> bool:
    """Whether a file begins like one that convert_file takes; its pixels are not looked at, and it may be refused."""
    try:
        return sniff_kind(path) is not None
    except OSError:
        return False


def _suffix(kind: Kind, head: bytes) -> str:
    """The format's own suffix, which names nobody."""
    if kind == "picture":
        return picture_suffix(head)
    return {"TIFF": ".tif", "DICOM": ".dcm", "NIfTI": ".nii.gz" if head.startswith(GZIP) else ".nii"}[kind]


def _describe(head: bytes) -> str:
    if not head:
        return "the file is empty"
    if head.startswith(GZIP):
        return "a gzip file that holds no NIfTI volume"
    return f"the file is no image (it begins with {head[:12]!r})"
