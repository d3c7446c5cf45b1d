"""What a DICOM file must be before its pixels are touched: an image, of a known layout, whole and not too large."""

import zlib
from typing import TYPE_CHECKING

from maskloop_learner.convert.dicom_values import term, whole
from maskloop_learner.convert.options import ConvertError, ConvertOptions
from maskloop_learner.convert.source import Source, check_size

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

PHOTOMETRICS = {
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    "PALETTE COLOR": 1,
    "RGB": 3,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_ICT": 3,
    "YBR_RCT": 3,
}
"""Photometric interpretation -> samples per pixel."""
_SEGMENTATION = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_DEFLATED = "1.2.840.10008.1.2.1.99"


def check_deflated(source: Source, options: ConvertOptions) -> None:
    """A deflated data set may unpack to a thousand times its size: count before pydicom unpacks it at once."""
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_file_meta_info

    try:
        meta = read_file_meta_info(source.path)
    except InvalidDicomError:
        return  # without a preamble there is no transfer syntax
    if meta.get("TransferSyntaxUID") != _DEFLATED:
        return
    unpacker, unpacked = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with source.path.open("rb") as file:
        file.seek(132 + 12 + int(meta.FileMetaInformationGroupLength))
        while chunk := unpacker.unconsumed_tail or file.read(1 << 16):
            unpacked += len(unpacker.decompress(chunk, 1 << 20))
            if unpacked > options.max_megabytes * 1e6:
                raise ConvertError(
                    f"{source.name}: it unpacks to more than {options.max_megabytes:g} megabytes; raise the limit"
                )


def check_content(dataset: "Dataset", name: str) -> None:
    """Raise ConvertError for a DICOM file that is no image, saying what it is."""
    from pydicom.uid import UID

    meta = getattr(dataset, "file_meta", None)
    kind = str(dataset.get("SOPClassUID") or (meta or {}).get("MediaStorageSOPClassUID") or "")
    # UID.name of an unknown one is the value itself, which may be anything.
    known = UID(kind).name if UID(kind).type == "SOP Class" else "a DICOM file of no known kind"
    if "DirectoryRecordSequence" in dataset:
        raise ConvertError(f"{name}: a DICOMDIR, a list of other files; import the files that it lists")
    if kind in _SEGMENTATION:
        raise ConvertError(f"{name}: a DICOM segmentation, a mask and not an image; export the mask as NIfTI or PNG")
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise ConvertError(f"{name}: {known} with floating-point pixels; export it with whole numbers")
    if "PixelData" not in dataset:
        raise ConvertError(f"{name}: {known}, which holds no pixels; import the images it belongs to")


def check_header(tags: "Dataset", syntax: "UID", source: Source, options: ConvertOptions) -> int:
    """The number of frames. Raises ConvertError or ValueError for what cannot be decoded, before it is tried."""
    name = source.name
    check_size(whole(tags, "Columns"), whole(tags, "Rows"), name=name, options=options)
    photometric, samples = term(tags, "PhotometricInterpretation"), whole(tags, "SamplesPerPixel", 1)
    if PHOTOMETRICS.get(photometric) != samples:
        known = photometric if photometric in PHOTOMETRICS else "colours of an unknown kind"
        raise ConvertError(f"{name}: {known} in {samples} samples per pixel are not read; export it as RGB")
    allocated, stored = whole(tags, "BitsAllocated"), whole(tags, "BitsStored")
    if allocated not in (1, 8, 16, 32) or not 1 <= stored <= allocated:
        raise ConvertError(f"{name}: {stored} bits of {allocated} per value are not read; export it with 8 or 16 bits")
    if whole(tags, "PixelRepresentation", 0) not in (0, 1):
        raise ConvertError(f"{name}: its PixelRepresentation is neither 0 nor 1; export it again")
    frames = int(whole(tags, "NumberOfFrames", 1)) or 1
    size = len(tags.PixelData)
    bits = whole(tags, "Columns") * whole(tags, "Rows") * samples * allocated
    bits = bits * 2 // 3 if photometric == "YBR_FULL_422" else bits
    least = 8 * frames if syntax.is_compressed else -(-bits * frames // 8)
    if frames < 1 or size < least:
        raise ConvertError(
            f"{name}: {frames} frames need {least} bytes, it holds {size}; it is cut short, copy it again"
        )
    return frames


def check_burned_in(tags: "Dataset", name: str, options: ConvertOptions) -> None:
    """Raise ConvertError for pixels that are said to show who it is, unless that is allowed."""
    if "YES" in str(tags.get("BurnedInAnnotation")).upper() and not options.allow_burned_in:
        raise ConvertError(
            f"{name}: its pixels are said to show who it is (Burned In Annotation is YES); blacken the writing, or "
            "allow burned-in annotation if it may be seen"
        )
