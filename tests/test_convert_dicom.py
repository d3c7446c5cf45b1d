"""DICOM frames are shown as a viewer shows them: every layout, window and colour, or a reason why not."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convert_files import convert, item, make_dicom, pixels_of, save_dicom
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import JPEGLosslessSV1Decoder
from pydicom.pixels.processing import apply_voi_lut
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from maskloop_learner.convert.dicom_pixels import coded_size
from maskloop_learner.convert.options import ConvertError, ConvertOptions
from maskloop_learner.convert.pictures import Picture

RAMP = np.arange(48 * 64).reshape(48, 64)


def show(folder: Path, dataset: FileDataset, **options: Any) -> list[Picture]:
    return convert(save_dicom(folder, dataset), ConvertOptions(**options))


def shown(folder: Path, dataset: FileDataset, **options: Any) -> NDArray[np.int64]:
    (picture,) = show(folder, dataset, **options)
    return pixels_of(picture).astype(np.int64)


def between(values: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    """What a linear map from low..high to 0..255 gives."""
    return np.clip((values - low) / (high - low), 0, 1) * 255


def packaged(name: str) -> Path:
    """A file that comes with pydicom; nothing is downloaded."""
    found = get_testdata_file(name, download=False)
    assert isinstance(found, str), name
    return Path(found)


@pytest.mark.parametrize("kind", ["u1", "i1"])
def test_8_bits_without_a_window_are_shown_whole(tmp_path: Path, kind: str) -> None:
    stored = np.arange(256).reshape(16, 16).astype(kind)
    (picture,) = show(tmp_path, make_dicom(stored))
    expected = np.arange(256).reshape(16, 16) if kind == "u1" else stored.astype(int) + 128
    assert np.array_equal(pixels_of(picture), expected)
    assert picture.origin["shown_by"] == "bits"
    assert picture.origin["signed"] is (kind == "i1")


def test_monochrome1_is_turned_round(tmp_path: Path) -> None:
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(shown(tmp_path, make_dicom(stored, photometric="MONOCHROME1")), 255 - stored.astype(int))
    deep = make_dicom((RAMP + 1000).astype(np.uint16), photometric="MONOCHROME1", WindowCenter=2536, WindowWidth=3072)
    assert shown(tmp_path, deep)[0, 0] == 255


@pytest.mark.parametrize(("bits", "kind"), [(10, "u2"), (12, "u2"), (12, "i2"), (16, "u2"), (16, "i2")])
def test_rescale_and_window_work_on_all_depths(tmp_path: Path, bits: int, kind: str) -> None:
    low = -(1 << bits - 1) if kind == "i2" else 0
    stored = (low + RAMP % (1 << bits)).astype(kind)
    dataset = make_dicom(stored, BitsStored=bits, HighBit=bits - 1, RescaleSlope=2, RescaleIntercept=-1024)
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = 2 * low, 1000, "LINEAR_EXACT"
    assert np.abs(shown(tmp_path, dataset) - between(stored * 2.0 - 1024, 2 * low - 500, 2 * low + 500)).max() <= 0.5


def test_bits_that_are_not_stored_do_not_count(tmp_path: Path) -> None:
    """Old files keep overlays in the bits above the highest one."""
    stored = (RAMP % 4096).astype(np.uint16)
    dataset = make_dicom(stored | 0xF000, BitsStored=12, HighBit=11, WindowCenter=2048, WindowWidth=4096)
    assert np.abs(shown(tmp_path, dataset) - between(stored, 0, 4095)).max() <= 0.5


def test_the_first_of_several_windows_is_taken_and_counted(tmp_path: Path) -> None:
    dataset = make_dicom(RAMP.astype(np.uint16), WindowCenter=[1000, 40, 50], WindowWidth=[500, 400, 1500])
    (picture,) = show(tmp_path, dataset)
    assert picture.origin["window"] == {
        "centre": 1000, "width": 500, "function": "LINEAR", "source": "file", "alternatives": 3,
    }  # fmt: skip
    assert np.abs(pixels_of(picture) - between(RAMP, 750, 1249)).max() <= 0.5
    (picture,) = show(tmp_path, dataset, window=(2000, 100))
    assert picture.origin["window"]["source"] == "option"
    assert np.abs(pixels_of(picture) - between(RAMP, 1950, 2050)).max() <= 0.5


def test_a_sigmoid_window_is_one(tmp_path: Path) -> None:
    dataset = make_dicom(RAMP.astype(np.uint16), WindowCenter=1500, WindowWidth=800, VOILUTFunction="SIGMOID")
    assert np.abs(shown(tmp_path, dataset) - 255 / (1 + np.exp(-4 * (RAMP - 1500) / 800))).max() <= 0.5


def test_percentiles_decide_where_nothing_else_does(tmp_path: Path) -> None:
    (picture,) = show(tmp_path, make_dicom(RAMP.astype(np.uint16)), percentiles=(10, 90))
    assert picture.origin["shown_by"] == "percentiles"
    assert np.abs(pixels_of(picture) - between(RAMP, *picture.origin["range"])).max() <= 0.5
    assert picture.origin["range"] == pytest.approx([307, 2764], abs=1)


@pytest.mark.parametrize("written", [-2000, 63536])
def test_padding_is_black_and_does_not_count(tmp_path: Path, written: int) -> None:
    """Some files write -2000 as if it had no sign."""
    stored = RAMP.astype(np.int16)
    stored[:8] = -2000
    dataset = make_dicom(stored, photometric="MONOCHROME1")
    dataset.add_new("PixelPaddingValue", "SS" if written < 0 else "US", written)
    (picture,) = show(tmp_path, dataset, percentiles=(0, 100))
    assert picture.origin["range"] == [512, 3071]
    assert picture.origin["padding"] == [written]
    assert pixels_of(picture)[:8].max() == 0
    assert pixels_of(picture)[8, 0] == 255


def test_padding_may_be_a_range(tmp_path: Path) -> None:
    dataset = make_dicom(RAMP.astype(np.uint16), PixelPaddingValue=0, PixelPaddingRangeLimit=99)
    (picture,) = show(tmp_path, dataset, percentiles=(0, 100))
    assert picture.origin["range"] == [100, 3071]


@pytest.mark.parametrize("kind", ["OW", "US"])
def test_lookup_tables_come_before_windows(tmp_path: Path, kind: str) -> None:
    stored = (RAMP % 256).astype(np.uint8)
    modality, voi = item(LUTDescriptor=[256, 0, 16]), item(LUTDescriptor=[4096, 1000, 12])
    for table, entries in ((modality, np.arange(256) ** 2), (voi, np.arange(4095, -1, -1))):
        table.add_new("LUTData", kind, entries.astype("<u2").tobytes() if kind == "OW" else entries.tolist())
    dataset = make_dicom(stored, ModalityLUTSequence=[modality], VOILUTSequence=[voi], WindowCenter=1, WindowWidth=2)
    (picture,) = show(tmp_path, dataset)
    values = stored.astype(np.int64) ** 2
    assert np.abs(pixels_of(picture) - (4095 - np.clip(values - 1000, 0, 4095)) / 4095 * 255).max() <= 0.5
    assert (picture.origin["shown_by"], picture.origin["rescale"]["table"]) == ("table", True)
    # pydicom's own, where it can
    assert np.array_equal(apply_voi_lut(values.astype(np.uint16), dataset), 4095 - np.clip(values - 1000, 0, 4095))


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_colours_in_planes_or_pixels_are_the_same(tmp_path: Path, planar: int, kind: str) -> None:
    colours = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], -1) % 256
    stored = (colours * (256 if kind == "u2" else 1)).astype(kind)
    dataset = make_dicom(stored, photometric="RGB")
    dataset.PlanarConfiguration = planar
    if planar:
        dataset.PixelData = stored.transpose(2, 0, 1).tobytes()
    assert np.array_equal(shown(tmp_path, dataset), colours)


def test_ybr_becomes_rgb(tmp_path: Path) -> None:
    dataset = make_dicom(np.full((4, 4, 3), (76, 85, 255), np.uint8), photometric="YBR_FULL")
    assert np.abs(shown(tmp_path, dataset) - (254, 0, 0)).max() <= 2
    packed = bytes([76, 76, 85, 255]) * 8
    halved = make_dicom(np.zeros((4, 4, 3), np.uint8), photometric="YBR_FULL_422", PixelData=packed)
    assert np.abs(shown(tmp_path, halved) - (254, 0, 0)).max() <= 2


@pytest.mark.parametrize("bits", [8, 16])
def test_palettes_are_looked_up(tmp_path: Path, bits: int) -> None:
    """16-bit entries that only use their lower half are what some ultrasound machines write."""
    dataset = make_dicom((RAMP % 4).astype(np.uint8), photometric="PALETTE COLOR")
    for number, colour in enumerate(("Red", "Green", "Blue")):
        entries = np.array([10, 60, 120, 250 - number], "<u2") * (257 if bits == 16 else 1)
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [4, 0, 16])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", entries.tobytes())
    expected = np.array([[10, 10, 10], [60, 60, 60], [120, 120, 120], [250, 249, 248]])
    assert np.array_equal(shown(tmp_path, dataset), expected[RAMP % 4])


def test_frames_are_named_and_share_one_range(tmp_path: Path) -> None:
    stack = np.stack([RAMP // 4, RAMP // 2, RAMP]).astype(np.uint16)
    pictures = show(tmp_path, make_dicom(stack, frames=3), rename="keep")
    assert [one.name for one in pictures] == [f"Miller^Anna-{number}.png" for number in (1, 2, 3)]
    assert [(one.origin["frame"], one.origin["frames"]) for one in pictures] == [(1, 3), (2, 3), (3, 3)]
    assert len({tuple(one.origin["range"]) for one in pictures}) == 1
    assert [int(pixels_of(one).max()) for one in pictures] == pytest.approx([64, 128, 255], abs=2)
    assert [one.origin["frame"] for one in show(tmp_path, make_dicom(stack, frames=3), frames=(2, 3))] == [2, 3]


def test_enhanced_frames_have_their_own_rescale_window_and_spacing(tmp_path: Path) -> None:
    dataset = make_dicom(np.stack([RAMP, RAMP]).astype(np.uint16), frames=2)
    dataset.PerFrameFunctionalGroupsSequence = [
        item(
            PixelValueTransformationSequence=[item(RescaleSlope=slope, RescaleIntercept=-5, RescaleType="US")],
            FrameVOILUTSequence=[item(WindowCenter=1000, WindowWidth=1000)],
        )
        for slope in (1, 2)
    ]
    dataset.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.75], SliceThickness=3)],
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 0, -1])],
            FrameVOILUTSequence=[item(WindowCenter=1, WindowWidth=1)],
        )
    ]
    for slope, picture in zip((1, 2), show(tmp_path, dataset), strict=True):
        assert np.abs(pixels_of(picture) - between(RAMP * slope - 5, 500, 1499)).max() <= 0.5
        assert picture.origin["rescale"] == {"slope": slope, "intercept": -5, "unit": "US", "table": False}
        assert (picture.origin["spacing"], picture.origin["thickness"]) == ([0.5, 0.75], 3)
        assert picture.origin["axis"] == "coronal"


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless])
def test_transfer_syntaxes_without_loss_are_the_same(tmp_path: Path, syntax: Any) -> None:
    dataset = make_dicom(RAMP.astype(np.uint16), WindowCenter=1536, WindowWidth=3072)
    expected = shown(tmp_path, dataset)
    if syntax == RLELossless:
        dataset.compress(RLELossless)
    dataset.file_meta.TransferSyntaxUID = syntax
    path = tmp_path / "other.dcm"
    dataset.save_as(path, enforce_file_format=True)
    (picture,) = convert(path)
    assert np.array_equal(pixels_of(picture), expected)
    assert picture.origin["transfer_syntax"] == syntax.name


def test_packaged_files_of_one_image_look_alike() -> None:
    names = ["", "_implicit", "_bigendian", "_expb", "_RLE", "_jp2klossless", "_padded"]
    pictures = [pixels_of(convert(packaged(f"MR_small{name}.dcm"))[0]) for name in names]
    assert all(np.array_equal(one, pictures[0]) for one in pictures)
    assert convert(packaged("MR_small_expb.dcm"))[0].origin["transfer_syntax"] == ExplicitVRBigEndian.name


def test_packaged_jpegs_of_one_image_look_alike() -> None:
    plain = pixels_of(convert(packaged("SC_rgb_rle.dcm"))[0]).astype(int)
    names = ["SC_rgb_dcmtk_+eb+cr", "SC_rgb_dcmtk_+eb+cy+np", "SC_rgb_dcmtk_+eb+cy+n1", "SC_rgb_jpeg_dcmtk"]
    for name in [*names, "SC_rgb_gdcm_KY", "SC_ybr_full_422_uncompressed"]:
        (picture,) = convert(packaged(f"{name}.dcm"))
        assert np.abs(pixels_of(picture) - plain).mean() < 3, name
    assert len(convert(packaged("examples_ybr_color.dcm"))) == 30


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("test-SR.dcm", "Comprehensive SR Storage, which holds no pixels; import the images"),
        ("rtstruct.dcm", "RT Structure Set Storage, which holds no pixels"),
        ("waveform_ecg.dcm", "12-lead ECG Waveform Storage, which holds no pixels"),
        ("dicomdirtests/DICOMDIR", "a DICOMDIR, a list of other files; import the files"),
        ("liver_1frame.dcm", "a DICOM segmentation, a mask and not an image; export the mask"),
        ("MR_truncated.dcm", "1 frames need 8192 bytes, it holds 8130; it is cut short"),
        ("JPGExtended.dcm", r"compressed as JPEG Extended .*pip install pylibjpeg pylibjpeg-libjpeg, under the GPL"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_a_reason(name: str, reason: str) -> None:
    path = packaged(name)
    with pytest.raises(ConvertError, match=rf"^{path.name}: .*{reason}"):
        convert(path)


def test_a_missing_decoder_is_named(tmp_path: Path) -> None:
    """A syntax that nothing decodes on any machine, so that the test does not depend on what is installed."""
    dataset = make_dicom(np.zeros((8, 8), np.uint8))
    dataset.PixelData = encapsulate([b"\0" * 64])
    dataset["PixelData"].is_undefined_length = True
    for syntax, reason in (
        ("1.2.840.10008.1.2.4.102", r"its pixels are MPEG-4 AVC/H\.264 .*, which is not read; export images"),
        ("1.2.3.4", "its pixels are of an unknown transfer syntax; export it uncompressed"),
    ):
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
        path = tmp_path / "film.dcm"
        dataset.save_as(path, implicit_vr=False, little_endian=True)
        with pytest.raises(ConvertError, match=reason):
            convert(path)


def test_a_package_is_named_where_a_decoder_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JPEGLosslessSV1Decoder, "_available", {})
    with pytest.raises(
        ConvertError, match=r"JPEG Lossless.* \(1\.2\.840\.10008\.1\.2\.4\.70\).*pip install python-gdcm"
    ):
        convert(packaged("SC_rgb_jpeg_gdcm.dcm"))


def test_a_frame_larger_than_its_header_is_not_decoded(tmp_path: Path) -> None:
    dataset = dcmread(packaged("SC_rgb_jpeg_dcmtk.dcm"))
    dataset.Rows = 50
    with pytest.raises(ConvertError, match="a frame is 100 x 100 pixels, the header says 100 x 50"):
        show(tmp_path, dataset)
    assert dataset.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    assert coded_size(b"\xff\xd8\xff\xff\xe0\x00\x04ab\xff\xc3\x00\x0b\x08\x00\x05\x00\x07") == (7, 5)
    assert coded_size(b"\xff\xd8\xff") is None


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"BurnedInAnnotation": "YES"}, "its pixels are said to show who it is .*; blacken the writing"),
        ({"Rows": 60000, "Columns": 60000}, "3600.0 megapixels, over the limit of 100"),
        ({"NumberOfFrames": 1_000_000_000}, "1000000000 frames need .* bytes, it holds"),
        ({"Rows": 0}, "64 x 0 pixels"),
        ({"BitsStored": 17}, "17 bits of 16 per value are not read"),
        ({"PhotometricInterpretation": "HSV"}, "colours of an unknown kind in 1 samples"),
        (
            {"WindowWidth": 0, "WindowCenter": 5},
            "the window's width 0.0 is too small for LINEAR; give a window",
        ),
        (
            {"WindowWidth": 5, "WindowCenter": 5, "VOILUTFunction": "CUBIC"},
            "its window is none of LINEAR, LINEAR_EXACT",
        ),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "RescaleSlope is 0"),
        ({"FloatPixelData": b"1234"}, "floating-point pixels; export it with whole numbers"),
    ],
)
def test_headers_that_cannot_be_right_are_refused(tmp_path: Path, tags: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConvertError, match=rf"^Miller\^Anna\.dcm: .*{reason}"):
        show(tmp_path, make_dicom(RAMP.astype(np.uint16), **tags))


def test_burned_in_annotation_may_be_allowed_and_is_recorded(tmp_path: Path) -> None:
    dataset = make_dicom(RAMP.astype(np.uint16), BurnedInAnnotation="YES")
    (picture,) = show(tmp_path, dataset, allow_burned_in=True)
    assert picture.origin["burned_in_annotation"] is True
    for told, recorded in (("NO", False), ("PERHAPS", None)):
        dataset.BurnedInAnnotation = told
        assert show(tmp_path, dataset)[0].origin["burned_in_annotation"] is recorded


def test_overlays_are_counted_and_left_out() -> None:
    (picture,) = convert(packaged("examples_overlay.dcm"))
    assert picture.origin["overlays_left_out"] == 1


def test_pixels_that_are_not_square_stay_as_they_are(tmp_path: Path) -> None:
    dataset = make_dicom(RAMP.astype(np.uint16), PixelSpacing=[2, 0.5], PixelAspectRatio=[4, 1])
    (picture,) = show(tmp_path, dataset)
    assert (picture.width, picture.height) == (64, 48)
    assert (picture.origin["spacing"], picture.origin["aspect"]) == ([2, 0.5], [4, 1])


def test_pydicom_says_nothing_of_the_values_it_reads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its warnings repeat them, a patient's name among them."""
    path = save_dicom(tmp_path, make_dicom(RAMP.astype(np.uint16), StudyDate="20200101"))
    path.write_bytes(path.read_bytes().replace(b"20200101", b"Miller!!"))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        convert(path)
    assert said == []
    assert caplog.text == ""
