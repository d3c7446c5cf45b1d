"""Files to convert, made by the libraries that write them."""

import io
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from maskloop_learner.convert.convert import convert_file
from maskloop_learner.convert.options import DEFAULTS, ConvertOptions
from maskloop_learner.convert.pictures import Picture


def pixels_of(picture: Picture) -> NDArray[np.uint8]:
    """The pixels of a picture as the PNG holds them."""
    return np.array(Image.open(io.BytesIO(picture.data)))


def convert(path: Path, options: ConvertOptions = DEFAULTS) -> list[Picture]:
    """All pictures of a file; each is a whole PNG of the size it says."""
    pictures = list(convert_file(path, options=options))
    for picture in pictures:
        assert pixels_of(picture).shape[1::-1] == (picture.width, picture.height)
    return pictures


def make_dicom(pixels: NDArray[Any], *, photometric: str = "MONOCHROME2", frames: int = 1, **tags: Any) -> FileDataset:
    """An uncompressed DICOM image of [H, W], [H, W, 3] or, of several frames, [N, H, W] or [N, H, W, 3]."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    shape = pixels.shape[1:] if frames > 1 else pixels.shape
    dataset.Rows, dataset.Columns = shape[:2]
    dataset.SamplesPerPixel = 3 if len(shape) == 3 else 1
    if len(shape) == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = dataset.BitsStored = pixels.dtype.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    if frames > 1:
        dataset.NumberOfFrames = frames
    dataset.PixelData = pixels.tobytes() + bytes(pixels.nbytes % 2)
    dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return dataset


def item(**tags: Any) -> Dataset:
    """One item of a sequence."""
    made = Dataset()
    for keyword, value in tags.items():
        setattr(made, keyword, value)
    return made


def save_dicom(folder: Path, dataset: FileDataset, name: str = "Miller^Anna.dcm") -> Path:
    """Write it; the file's name is that of a patient, as it happens."""
    path = folder / name
    dataset.save_as(path, enforce_file_format=True)
    return path


def save_nifti(path: Path, voxels: NDArray[Any], affine: Any = None, **header: Any) -> Path:
    """Write a volume; affine: [4, 4], None: 1 mm, growing to the right, front and top (RAS)."""
    image = nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else np.asarray(affine, float))
    for key, value in header.items():
        image.header[key] = value
    nibabel.save(image, path)
    return path


def save_pages(path: Path, pages: list[Image.Image], **options: Any) -> Path:
    """Write a TIFF of several pages."""
    pages[0].save(path, "TIFF", save_all=True, append_images=pages[1:], **options)
    return path
