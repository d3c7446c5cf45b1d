"""Who was imaged stays behind: every tag that leaves a DICOM file is listed here, and nothing else does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convert_files import convert, item, make_dicom, pixels_of, save_dicom
from pydicom import dcmread
from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileDataset

from maskloop_learner.convert.dicom_tags import TAKEN, keep_taken
from maskloop_learner.convert.options import ConvertOptions

ROOT = Path(__file__).parents[1]
TEXT, WORD, NUMBER = "MILLER^ANNA", "MILLERANNA", 271828
"""A marker for every kind of value: free text, coded terms, numbers."""

LEAVE = {
    "modality": ["Modality"],
    "photometric": ["PhotometricInterpretation"],
    "bits": ["BitsStored"],
    "signed": ["PixelRepresentation"],
    "frames": ["NumberOfFrames"],
    "padding": ["PixelPaddingValue", "PixelPaddingRangeLimit"],
    "rescale": ["RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence"],
    "shown_by": ["VOILUTSequence"],
    "window": ["WindowCenter", "WindowWidth", "VOILUTFunction"],
    "spacing": ["PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"],
    "aspect": ["PixelAspectRatio"],
    "thickness": ["SliceThickness"],
    "orientation": ["ImageOrientationPatient"],
    "burned_in_annotation": ["BurnedInAnnotation"],
    "lossy": ["LossyImageCompression"],
}
"""Every tag of which something leaves in an origin, by the origin's key. TransferSyntaxUID leaves as its name."""

PIXELS = {
    "Rows", "Columns", "SamplesPerPixel", "PlanarConfiguration", "BitsAllocated", "HighBit", "PixelData",
    "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "LUTDescriptor", "LUTData",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData", "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData", "SegmentedBluePaletteColorLookupTableData",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PixelValueTransformationSequence",
    "FrameVOILUTSequence", "PixelMeasuresSequence", "PlaneOrientationSequence",
}  # fmt: skip
"""Every other tag that is looked at, to make the picture."""

ORIGIN = {
    "file", "sha256", "format", "frame", "frames", "modality", "photometric", "bits", "signed", "padding",
    "transfer_syntax", "lossy", "spacing", "aspect", "thickness", "orientation", "axis", "burned_in_annotation",
    "overlays_left_out", "shown_by", "window", "range", "rescale",
}  # fmt: skip

_NUMBERS = {"DS": str(NUMBER), "IS": str(NUMBER), "FD": NUMBER, "FL": NUMBER, "SL": NUMBER, "SV": NUMBER}
_NUMBERS |= {"UL": NUMBER, "UV": NUMBER, "US": NUMBER % 65536, "SS": NUMBER % 32768}
_BYTES = {"OB", "OW", "OF", "OD", "OL", "OV", "UN"}
_DATES = {"DA": "19710828", "TM": "271828", "DT": "19710828271828", "AS": "071Y", "UI": "1.2.271828.1"}
MARKS = (b"MILLER", b"271828", b"19710828", b"071Y")


def mark(kind: str) -> Any:
    """A marker that fits a kind of value."""
    if kind in _NUMBERS:
        return _NUMBERS[kind]
    if kind in _BYTES:
        return TEXT.encode() + b" "
    if kind == "SQ":
        return [item(PatientName=TEXT, PatientID=TEXT, ReferringPhysicianName=TEXT)]
    return _DATES.get(kind, WORD if kind in ("CS", "AE", "SH") else TEXT)


def fill_all(dataset: FileDataset, but: set[int]) -> int:
    """Put a marker into every public tag of the standard's dictionary but a few; the number filled."""
    filled = 0
    for tag, (kinds, _, _, _, keyword) in DicomDictionary.items():
        if tag in but or tag >> 16 in (0x0000, 0x0002, 0xFFFE) or not keyword:
            continue
        kind = kinds.split(" or ")[0]
        if kind in ("AT", "NONE"):
            continue
        dataset.add_new(tag, kind, mark(kind))
        filled += 1
    return filled


def fill_private(dataset: Dataset) -> None:
    for group in (0x0009, 0x0029, 0x00E1):
        block = dataset.private_block(group, TEXT, create=True)
        for element, kind in enumerate(("LO", "PN", "OB", "DS", "SQ")):
            block.add_new(element, kind, mark(kind))


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, which finds no date in the markers
def test_a_file_full_of_names_gives_a_picture_without_any(tmp_path: Path) -> None:
    """Every public tag of the dictionary, the de-identification profile's among them, and private ones."""
    pixels = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)
    dataset = make_dicom(pixels, WindowCenter=1536, WindowWidth=3072, RescaleSlope=1, RescaleIntercept=0)
    makes_pixels = set(dataset.keys()) | {
        tag_for_keyword(keyword) or 0
        for keyword in (*PIXELS, "VOILUTFunction", "VOILUTSequence", "ModalityLUTSequence", "PixelPaddingValue",
                        "PixelPaddingRangeLimit", "FloatPixelData", "DoubleFloatPixelData", "NumberOfFrames",
                        "DirectoryRecordSequence")
    }  # fmt: skip
    filled = fill_all(dataset, makes_pixels)
    fill_private(dataset)
    for group in (0x6000, 0x6002):
        dataset.add_new((group, 0x3000), "OW", TEXT.encode() + b" ")
        dataset.add_new((group, 0x0022), "LO", TEXT)
    dataset.preamble = (TEXT.encode() * 20)[:128]
    assert filled > 4900
    path = save_dicom(tmp_path, dataset, "Miller^Anna 19710828.dcm")
    assert path.read_bytes().count(b"MILLER") > 2000

    (picture,) = convert(path)

    # A number of a tag that leaves may be any number.
    assert picture.origin.pop("thickness") == NUMBER
    said = json.dumps([picture.name, picture.origin]).upper().encode()
    assert [found for found in MARKS if found in said] == []
    assert [found for found in MARKS if found in picture.data.upper()] == []
    assert set(picture.origin) == ORIGIN - {"thickness"}
    assert picture.name == picture.origin["sha256"][:12] + ".png"
    assert picture.origin["modality"] is None
    assert picture.origin["overlays_left_out"] == 2
    assert pixels_of(picture)[0, 0] == 0
    chunks = [kind for kind in (b"tEXt", b"iTXt", b"zTXt", b"eXIf", b"iCCP", b"tIME", b"pHYs") if kind in picture.data]
    assert chunks == []


def test_the_table_is_this_list() -> None:
    leaving: dict[str, list[str]] = {}
    for tag in TAKEN:
        assert tag.reason
        if tag.key:
            leaving.setdefault(tag.key, []).append(tag.keyword)
    assert leaving == LEAVE
    assert {tag.keyword for tag in TAKEN if not tag.key} == PIXELS
    assert set(leaving) <= ORIGIN


def test_the_page_on_files_is_this_list() -> None:
    page = (ROOT / "docs" / "files.md").read_text()
    for keywords in LEAVE.values():
        for keyword in keywords:
            assert f"`{keyword}`" in page, keyword


def test_everything_else_is_dropped_before_it_is_looked_at(tmp_path: Path) -> None:
    """In sequences too."""
    dataset = make_dicom(np.zeros((4, 4), np.uint16), PatientName=TEXT, Modality="MR")
    inner = item(RescaleSlope=1, RescaleIntercept=0, FrameComments=TEXT)
    shared = item(PixelValueTransformationSequence=[inner], FrameAnatomySequence=[item(PatientName=TEXT)])
    dataset.SharedFunctionalGroupsSequence = [shared]
    fill_private(dataset)
    kept = keep_taken(dcmread(save_dicom(tmp_path, dataset)))
    assert {element.keyword for element in kept} == {
        "Modality", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored",
        "HighBit", "PixelRepresentation", "SharedFunctionalGroupsSequence", "PixelData",
    }  # fmt: skip
    groups = kept.SharedFunctionalGroupsSequence[0]
    assert [element.keyword for element in groups] == ["PixelValueTransformationSequence"]
    (values,) = groups.PixelValueTransformationSequence
    assert [element.keyword for element in values] == ["RescaleIntercept", "RescaleSlope"]


@pytest.mark.parametrize(
    ("keyword", "key", "known"),
    [("Modality", "modality", "MR"), ("RescaleType", "rescale", "HU"), ("LossyImageCompression", "lossy", "01")],
)
def test_a_tag_that_leaves_holds_a_fixed_term_or_nothing(tmp_path: Path, keyword: str, key: str, known: str) -> None:
    for value, expected in ((known, True), (WORD, False)):
        dataset = make_dicom(np.zeros((4, 4), np.uint16), RescaleSlope=1, RescaleIntercept=0)
        setattr(dataset, keyword, value)
        (picture,) = convert(save_dicom(tmp_path, dataset))
        found = picture.origin[key]["unit"] if key == "rescale" else picture.origin[key]
        assert (found is not None) is expected
        assert WORD not in json.dumps(picture.origin)


def test_a_damaged_tag_that_changes_no_pixel_is_left_out(tmp_path: Path) -> None:
    path = save_dicom(tmp_path, make_dicom(np.zeros((4, 4), np.uint16), SliceThickness="123456", PixelSpacing=[1, 2]))
    path.write_bytes(path.read_bytes().replace(b"123456", b"Miller"))
    (picture,) = convert(path)
    assert picture.origin["thickness"] is None
    assert picture.origin["spacing"] == [1, 2]


def test_a_named_file_keeps_its_name_only_where_asked_for(tmp_path: Path) -> None:
    path = save_dicom(tmp_path, make_dicom(np.zeros((4, 4), np.uint16)), "Miller^Anna.19710828")
    (picture,) = convert(path)
    assert "Miller" not in picture.name + str(picture.origin)
    assert "19710828" not in picture.name + str(picture.origin)
    (picture,) = convert(path, ConvertOptions(rename="keep"))
    assert (picture.name, picture.origin["file"]) == ("Miller^Anna.png", "Miller^Anna.19710828")
