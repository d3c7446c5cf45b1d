"""Damaged and hostile files give a reason or a picture, never anything else, in bounded time and memory."""

import gzip
import io
import json
import re
import resource
import struct
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from convert_files import item, make_dicom, pixels_of, save_dicom, save_nifti, save_pages
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from maskloop_learner.convert.convert import convert_file
from maskloop_learner.convert.masks import convert_mask
from maskloop_learner.convert.options import ConvertError, ConvertOptions

Mutation = Callable[[np.random.Generator, bytes], bytes]
OPTIONS = ConvertOptions(max_megapixels=1, max_megabytes=64)
PACKAGED = (
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm",
    "rtdose.dcm",
    "JPEGLSNearLossless_08.dcm",
)
SECONDS = 5.0
"""Of processor time, for one file."""
GROWTH = 1000
"""Megabytes by which the process may grow: more than any of these files needs, less than what their headers promise.
A process that predicted before keeps what it frees, so this is no measure of one file."""
RAMP = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)


def flip(rng: np.random.Generator, data: bytes, within: int = 0) -> bytes:
    """Other bytes at one to eight places."""
    changed = np.frombuffer(data, np.uint8).copy()
    places = rng.integers(0, min(within, len(data)) or len(data), rng.integers(1, 9))
    changed[places] = rng.choice(np.array([0, 1, 2, 127, 128, 254, 255, rng.integers(256)], np.uint8), len(places))
    return changed.tobytes()


def flip_head(rng: np.random.Generator, data: bytes) -> bytes:
    return flip(rng, data, within=400)


def cut(rng: np.random.Generator, data: bytes) -> bytes:
    return data[: rng.integers(0, len(data))]


def splice(rng: np.random.Generator, data: bytes) -> bytes:
    """A piece of the file in a wrong place."""
    start, end = sorted(rng.integers(0, len(data), 2))
    place = int(rng.integers(0, len(data)))
    return data[:place] + data[start : min(end, start + 64)] + data[place:]


def wild_elements(rng: np.random.Generator, data: bytes) -> bytes:
    """Wild values in the tags of a DICOM image's layout."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        group = rng.choice(np.array([b"\x28\x00", b"\x00\x28"]))
        found = [at for at in range(132, len(data) - 12) if data[at : at + 2] == group][:60]
        if found:
            at = int(rng.choice(found)) + int(rng.choice([4, 6, 8, 10]))
            changed[at : at + 2] = struct.pack("<H", int(rng.choice([0, 1, 7, 255, 32767, 32768, 65535])))
    return bytes(changed)


def wild_tags(rng: np.random.Generator, data: bytes) -> bytes:
    """Wild values in the directory of a TIFF."""
    changed = bytearray(data)
    (start,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[start : start + 2])
    for _ in range(rng.integers(1, 4)):
        at = start + 2 + 12 * int(rng.integers(count)) + int(rng.choice([0, 2, 4, 8]))
        changed[at : at + 4] = struct.pack("<I", int(rng.choice([0, 1, 3, 65535, 2**24, 2**31 - 1, 2**32 - 1])))
    return bytes(changed)


def wild_header(rng: np.random.Generator, data: bytes) -> bytes:
    """Wild values in the fields of a NIfTI header, packed again where it was packed."""
    packed = data[:2] == b"\x1f\x8b"
    plain = gzip.decompress(data) if packed else data
    header = nibabel.Nifti1Header(plain[:348], check=False)
    names = ["dim", "datatype", "bitpix", "vox_offset", "scl_slope", "scl_inter", "srow_x", "srow_y", "qform_code"]
    for _ in range(rng.integers(1, 4)):
        name = str(rng.choice(names))
        wild = rng.choice([0, -1, 1, 7, 2, 512, 32767, np.nan, np.inf, -1e30, 1e30])
        kind = header[name].dtype
        value = np.float32(wild) if kind.kind == "f" else np.int16(np.clip(np.nan_to_num(wild), -32768, 32767))
        if header[name].ndim:
            header[name][rng.integers(len(header[name]))] = value
        else:
            header[name] = value
    changed = header.binaryblock + plain[348:]
    return gzip.compress(changed) if packed else changed


def dicoms(folder: Path) -> dict[str, bytes]:
    made = {}
    frames = make_dicom(np.stack([RAMP, RAMP]), frames=2, PixelPaddingValue=3, RescaleSlope=2, RescaleIntercept=-9)
    frames.PerFrameFunctionalGroupsSequence = [
        item(FrameVOILUTSequence=[item(WindowCenter=900 * number, WindowWidth=800)]) for number in (1, 2)
    ]
    tables = make_dicom((RAMP % 256).astype(np.uint8), photometric="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(tables, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(tables, f"{colour}PaletteColorLookupTableData", bytes(512))
    voi = item(LUTDescriptor=[64, 0, 12])
    voi.add_new("LUTData", "US", list(range(64)))
    looked_up = make_dicom(RAMP, photometric="MONOCHROME1", VOILUTSequence=[voi])
    packed = make_dicom(RAMP)
    packed.compress(RLELossless)
    deflated = make_dicom(RAMP)
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    for name, dataset in (
        ("frames", frames), ("palette", tables), ("table", looked_up), ("rle", packed), ("deflated", deflated),
    ):  # fmt: skip
        made[name] = save_dicom(folder, dataset).read_bytes()
    for name in PACKAGED:
        found = get_testdata_file(name, download=False)
        assert isinstance(found, str)
        made[name] = Path(found).read_bytes()
    return made


def files(folder: Path) -> dict[str, tuple[bytes, list[Mutation]]]:
    """Name -> a sound file and the ways to damage it."""
    always: list[Mutation] = [flip, flip_head, cut, splice]
    made: dict[str, tuple[bytes, list[Mutation]]] = {
        name: (data, [*always, wild_elements]) for name, data in dicoms(folder).items()
    }
    grey, colour = Image.fromarray(RAMP), Image.fromarray(np.stack([RAMP % 256] * 3, -1).astype(np.uint8))
    for name, image, options in (
        ("deep tiff", grey, {}),
        ("lzw tiff", colour, {"compression": "tiff_lzw"}),
        ("jpeg tiff", colour, {"compression": "jpeg"}),
        ("float tiff", Image.fromarray(RAMP.astype(np.float32)), {}),
    ):
        pages = save_pages(folder / "x.tif", [image, image], **options).read_bytes()
        made[name] = (pages, [*always, wild_tags])
    for name in ("x.nii", "x.nii.gz"):
        volume = save_nifti(folder / name, RAMP.reshape(16, 24, 8).astype(np.int16)).read_bytes()
        made[name] = (volume, [flip, flip_head, cut, splice, wild_header])
    for kind in ("PNG", "JPEG", "WEBP", "BMP"):
        buffer = io.BytesIO()
        colour.save(buffer, kind)
        made[kind] = (buffer.getvalue(), always)
    return made


def outcome(path: Path) -> str:
    """picture, or the reason why not; anything else is raised."""
    reason = "picture"
    try:
        for picture in convert_file(path, options=OPTIONS):
            json.dumps(picture.origin, allow_nan=False)
            if picture.origin["shown_by"] != "itself":
                assert pixels_of(picture).shape[1::-1] == (picture.width, picture.height)
    except ConvertError as error:
        reason = str(error)
    assert reason == "picture" or re.match(rf"{path.name}: .+; .+", reason)
    return reason


@pytest.mark.parametrize("rounds", [22, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_damaged_files_give_a_reason_or_a_picture(tmp_path: Path, rounds: int) -> None:
    rng = np.random.default_rng(20)
    sound = files(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reasons: list[str] = []
    slowest = 0.0
    for name, (data, ways) in sound.items():
        path = tmp_path / "case.bin"
        path.write_bytes(data)
        if name != "JPEGLSNearLossless_08.dcm":  # needs a decoder that may not be there
            assert outcome(path) == "picture", name
        for number in range(rounds):
            path.write_bytes(ways[number % len(ways)](rng, data))
            start = time.process_time()
            reasons.append(outcome(path))
            slowest = max(slowest, time.process_time() - start)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    refused = [reason for reason in reasons if reason != "picture"]
    print(f"{len(reasons)} files, {len(refused)} refused, slowest {slowest:.2f} s, grew by {grown:.0f} MB")
    assert len(reasons) >= 500
    assert 100 < len(refused) < len(reasons) - 100
    assert slowest < SECONDS
    assert grown < GROWTH


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_damaged_label_volumes_give_a_reason_or_masks(tmp_path: Path) -> None:
    rng = np.random.default_rng(21)
    data = save_nifti(tmp_path / "seg.nii.gz", (RAMP.reshape(16, 24, 8) % 5).astype(np.uint8)).read_bytes()
    path, refused = tmp_path / "case.nii.gz", 0
    for number in range(60):
        path.write_bytes((wild_header, cut, flip)[number % 3](rng, data))
        try:
            for _, mask in convert_mask(path, options=OPTIONS):
                assert mask.dtype == np.bool_
        except ConvertError:
            refused += 1
    assert 5 < refused < 60


def test_a_deflated_bomb_is_not_unpacked(tmp_path: Path) -> None:
    dataset = make_dicom(np.zeros((900, 900), np.uint16), ImageComments="x")
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.add_new((0x0009, 0x0010), "LO", "bomb")
    dataset.add_new((0x0009, 0x1001), "OB", bytes(100_000_000))
    path = save_dicom(tmp_path, dataset, "bomb.dcm")
    assert path.stat().st_size < 200_000
    with pytest.raises(ConvertError, match=r"bomb\.dcm: it unpacks to more than 64 megabytes"):
        list(convert_file(path, options=OPTIONS))


def test_a_compressed_frame_of_another_size_is_not_decoded(tmp_path: Path) -> None:
    found = get_testdata_file("SC_rgb_jpeg_dcmtk.dcm", download=False)
    dataset = dcmread(str(found))
    at = dataset.PixelData.index(b"\xff\xc0")
    dataset.PixelData = dataset.PixelData[: at + 5] + b"\xff\xff\xff\xff" + dataset.PixelData[at + 9 :]
    path = save_dicom(tmp_path, dataset, "big.dcm")
    with pytest.raises(ConvertError, match="a frame is 65535 x 65535 pixels, the header says 100 x 100"):
        list(convert_file(path))


def test_segments_of_a_palette_that_unfold_without_end_are_refused(tmp_path: Path) -> None:
    dataset = make_dicom((RAMP % 256).astype(np.uint8), photometric="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        segments = struct.pack("<3H", 0, 1, 0) + struct.pack("<3H", 1, 65535, 9) * 2000
        setattr(dataset, f"Segmented{colour}PaletteColorLookupTableData", segments)
    with pytest.raises(ConvertError, match="the segments of its palette are not read"):
        list(convert_file(save_dicom(tmp_path, dataset), options=OPTIONS))
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"Segmented{colour}PaletteColorLookupTableData", struct.pack("<6H", 0, 1, 0, 1, 255, 65535))
    (picture,) = convert_file(save_dicom(tmp_path, dataset), options=OPTIONS)
    assert pixels_of(picture)[0, 255 % 64].tolist() == [63, 63, 63]
