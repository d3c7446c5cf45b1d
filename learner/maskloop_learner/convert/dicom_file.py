"""A DICOM file is read, checked to hold images, and reduced to the tags that may leave."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maskloop_learner.convert.dicom_checks import check_burned_in, check_content, check_deflated, check_header
from maskloop_learner.convert.dicom_tags import count_overlays, keep_taken
from maskloop_learner.convert.dicom_values import term
from maskloop_learner.convert.options import ConvertError, ConvertOptions
from maskloop_learner.convert.source import Source, damage_named

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID


@dataclass(frozen=True)
class DicomImage:
    """An image's tags that may leave, and what was found out about it."""

    tags: "Dataset"
    syntax: "UID"
    frames: int
    overlays: int
    photometric: str

    @property
    def grey(self) -> bool:
        """Whether its values are shades and not colours."""
        return self.photometric in ("MONOCHROME1", "MONOCHROME2")


def read_dicom(source: Source, options: ConvertOptions) -> DicomImage:
    """Read a file. Raises ConvertError when it is damaged, holds no image, is too large or shows who it is."""
    from pydicom import dcmread
    from pydicom.dataset import FileMetaDataset

    with reading(source.name, "DICOM file", quote=False):
        check_deflated(source, options)
        dataset = dcmread(source.path, force=True)
        check_content(dataset, source.name)
        syntax, overlays = _syntax(dataset, source.name), count_overlays(dataset)
        tags = keep_taken(dataset)
        tags.file_meta = FileMetaDataset()
        tags.file_meta.TransferSyntaxUID = syntax
    with reading(source.name, "DICOM header"):
        frames = check_header(tags, syntax, source, options)
        check_burned_in(tags, source.name, options)
    return DicomImage(tags, syntax, frames, overlays, term(tags, "PhotometricInterpretation"))


@contextmanager
def reading(name: str, what: str, *, quote: bool = True) -> Iterator[None]:
    """Name damage that pydicom finds, like damage_named.

    pydicom's warnings and log are silenced: they repeat values of tags, a patient's name among them.
    """
    from pydicom.errors import BytesLengthException, InvalidDicomError

    logger = logging.getLogger("pydicom")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        others = (BytesLengthException, InvalidDicomError)
        with warnings.catch_warnings(), damage_named(name, what, others=others, quote=quote):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _syntax(dataset: "Dataset", name: str) -> "UID":
    """The transfer syntax; of a file that names none, the one that it was read with. Raises ConvertError."""
    from pydicom import uid

    meta = getattr(dataset, "file_meta", None)
    named = None if meta is None else meta.get("TransferSyntaxUID")
    if named:
        if uid.UID(named).type != "Transfer Syntax":
            raise ConvertError(f"{name}: its pixels are of an unknown transfer syntax; export it uncompressed")
        return uid.UID(named)
    implicit, little = dataset.original_encoding
    if implicit:
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
