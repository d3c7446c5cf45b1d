"""What a browser shows goes through untouched; names, options and refusals of every format."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convert_files import convert, make_dicom, pixels_of, save_dicom, save_nifti, save_pages
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from maskloop_learner.convert.convert import convert_file, is_convertible
from maskloop_learner.convert.options import ConvertError, ConvertOptions
from maskloop_learner.convert.pictures import frame_name
from maskloop_learner.convert.source import open_source, stem_of

ROOT = Path(__file__).parents[1]


def picture(file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(200 * 3, dtype=np.uint8).reshape(10, 20, 3)).save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("file_format", "suffix"), [("PNG", "png"), ("JPEG", "JPG"), ("WEBP", "webp"), ("BMP", "bmp")])
def test_what_a_browser_shows_passes_unchanged(tmp_path: Path, file_format: str, suffix: str) -> None:
    path = tmp_path / f"scan.{suffix}"
    path.write_bytes(picture(file_format))
    (passed,) = convert(path)
    assert passed.name == path.name
    assert passed.data == path.read_bytes()
    assert (passed.width, passed.height) == (20, 10)
    assert passed.origin["format"] == file_format
    assert passed.origin["shown_by"] == "itself"


def test_a_picture_gets_a_suffix_that_a_browser_knows(tmp_path: Path) -> None:
    for name, expected in (("scan.dat", "scan.jpg"), ("scan", "scan.jpg"), ("a.b.png", "a.b.png")):
        (tmp_path / name).write_bytes(picture("JPEG"))
        assert convert(tmp_path / name)[0].name == expected


def test_stripping_leaves_the_pixels_alone(tmp_path: Path) -> None:
    text, path = PngInfo(), tmp_path / "scan.png"
    text.add_text("Patient", "Anna Miller")
    path.write_bytes(picture("PNG", pnginfo=text))
    kept, stripped = convert(path)[0], convert(path, ConvertOptions(strip=True))[0]
    assert b"Anna Miller" in kept.data
    assert b"Anna Miller" not in stripped.data
    assert np.array_equal(pixels_of(kept), pixels_of(stripped))


def test_names_are_digests_where_asked_for_and_for_dicom(tmp_path: Path) -> None:
    png = tmp_path / "Anna Miller.png"
    png.write_bytes(picture("PNG"))
    (kept,), (renamed,) = convert(png), convert(png, ConvertOptions(rename="digest"))
    assert (kept.name, kept.origin["file"]) == (png.name, png.name)
    digest = renamed.origin["sha256"][:12]
    assert renamed.name == renamed.origin["file"] == f"{digest}.png"
    dicom = save_dicom(tmp_path, make_dicom(np.zeros((4, 4), np.uint8)))
    (renamed,), (kept,) = convert(dicom), convert(dicom, ConvertOptions(rename="keep"))
    digest = renamed.origin["sha256"][:12]
    assert (renamed.name, renamed.origin["file"]) == (f"{digest}.png", f"{digest}.dcm")
    assert (kept.name, kept.origin["file"]) == ("Miller^Anna.png", "Miller^Anna.dcm")


def test_frame_names_sort_as_frames_do() -> None:
    assert frame_name("a", 1, 1) == "a.png"
    assert frame_name("a", 7, 1200) == "a-0007.png"
    assert frame_name("a", 7, 12, volume=2, volumes=3) == "a-2-07.png"
    names = [frame_name("a", number, 120) for number in range(1, 121)]
    assert names == sorted(names)
    assert [stem_of(Path(name)) for name in ("x.nii.gz", "x.nii", "x.1.dcm", ".nii.gz")] == ["x", "x", "x.1", ".nii"]


def test_what_is_convertible_is_told_by_content(tmp_path: Path) -> None:
    files = {
        "tiff.png": save_pages(tmp_path / "t", [Image.new("L", (4, 4))]).read_bytes(),
        "dicom": save_dicom(tmp_path, make_dicom(np.zeros((4, 4), np.uint8))).read_bytes(),
        "volume": save_nifti(tmp_path / "v.nii.gz", np.zeros((4, 4, 4), np.int16)).read_bytes(),
        "picture.dcm": picture("BMP"),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        assert is_convertible(tmp_path / name), name
        assert convert(tmp_path / name), name
    assert convert(tmp_path / "tiff.png")[0].origin["format"] == "TIFF"
    for name, data in {"empty": b"", "text.png": b"no image at all", "x.gz": b"\x1f\x8b\x08rubbish"}.items():
        (tmp_path / name).write_bytes(data)
        assert not is_convertible(tmp_path / name)
        with pytest.raises(ConvertError, match=rf"^{name}: .+; give PNG"):
            list(convert_file(tmp_path / name))
    assert not is_convertible(tmp_path)
    assert not is_convertible(tmp_path / "missing")
    with pytest.raises(ConvertError, match="missing: it cannot be read"):
        list(convert_file(tmp_path / "missing"))


def test_animations_and_damage_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "moving.webp"
    other = Image.new("RGB", (20, 10), "red")
    path.write_bytes(picture("WEBP", save_all=True, append_images=[other]))
    with pytest.raises(ConvertError, match=r"moving\.webp: animated, 2 frames"):
        list(convert_file(path))
    path.write_bytes(picture("PNG")[:60])
    with pytest.raises(ConvertError, match=r"moving\.webp: the PNG file is damaged"):
        list(convert_file(path))


@pytest.mark.parametrize(
    "options",
    [
        {"percentiles": (99, 1)},
        {"percentiles": (-1, 50)},
        {"window": (40, 0)},
        {"window": (float("nan"), 1)},
        {"every": 0},
        {"frames": (0, 3)},
        {"frames": (4, 3)},
        {"volume": 0},
        {"axis": "up"},
        {"rename": "hide"},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConvertError, match=next(iter(options))):
        ConvertOptions(**options)


def test_files_over_the_limits_are_refused(tmp_path: Path) -> None:
    made = {
        "a.png": picture("PNG"),
        "a.tif": save_pages(tmp_path / "t", [Image.new("L", (20, 10))]).read_bytes(),
        "a.dcm": save_dicom(tmp_path, make_dicom(np.zeros((10, 20), np.uint8))).read_bytes(),
        "a.nii": save_nifti(tmp_path / "v.nii", np.zeros((20, 10, 3), np.int16)).read_bytes(),
    }
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
        assert convert(tmp_path / name, ConvertOptions(max_megapixels=200 / 1e6))
        with pytest.raises(ConvertError, match=rf"{name}: .*megapixels, over the limit of 0.000199"):
            convert(tmp_path / name, ConvertOptions(max_megapixels=199 / 1e6))
        with pytest.raises(ConvertError, match=rf"{name}: .*megabytes.* limit of 1e-05"):
            convert(tmp_path / name, ConvertOptions(max_megabytes=1e-5))
    with pytest.raises(ConvertError, match="over the limit"):
        open_source(tmp_path / "a.png", suffix=".png", digest=False, options=ConvertOptions(max_megabytes=1e-5))


def test_frames_out_of_range_are_refused(tmp_path: Path) -> None:
    path = save_pages(tmp_path / "two.tif", [Image.new("L", (4, 4)), Image.new("L", (4, 4))])
    assert [one.name for one in convert(path, ConvertOptions(frames=(2, 9)))] == ["two-2.png"]
    with pytest.raises(ConvertError, match=r"two\.tif: frames 3\.\.9 are asked for, it has 2"):
        convert(path, ConvertOptions(frames=(3, 9)))


def test_converting_loads_neither_torch_nor_readers_that_are_not_needed() -> None:
    code = (
        "import sys, maskloop_learner.convert.convert, maskloop_learner.convert.masks\n"
        "print([name for name in ('torch', 'pydicom', 'nibabel') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT / "learner")},
    )
    assert done.stdout.strip() == "[]"
