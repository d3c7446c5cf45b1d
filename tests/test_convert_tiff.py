"""TIFF: 8 bits unchanged, deep values by one range, every page, every common way of storing."""

from pathlib import Path

import numpy as np
import pytest
from convert_files import convert, pixels_of, save_pages
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from maskloop_learner.convert.options import ConvertError, ConvertOptions

RAMP = np.arange(60 * 40, dtype=np.float64).reshape(40, 60)


def deep(scale: float = 20, kind: str = "<u2") -> Image.Image:
    return Image.fromarray((RAMP * scale).astype(kind))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_8_bits_are_not_touched(tmp_path: Path, compression: str) -> None:
    grey = np.indices((40, 60)).sum(0).astype(np.uint8)
    colours = np.stack([grey, grey[::-1], 255 - grey], -1)
    (shown,) = convert(save_pages(tmp_path / "grey.tif", [Image.fromarray(grey)], compression=compression))
    assert np.array_equal(pixels_of(shown), grey)
    assert shown.origin["shown_by"] == "colours"
    assert (shown.origin["bits"], shown.origin["frame"], shown.origin["frames"]) == (8, None, 1)
    (shown,) = convert(save_pages(tmp_path / "colour.tif", [Image.fromarray(colours)], compression=compression))
    assert np.array_equal(pixels_of(shown), colours)


def test_16_bits_are_spread_between_percentiles(tmp_path: Path) -> None:
    path = save_pages(tmp_path / "deep.tif", [deep()])
    (shown,) = convert(path)
    low, high = shown.origin["range"]
    assert (shown.origin["bits"], shown.origin["shown_by"]) == (16, "percentiles")
    expected = np.clip((RAMP * 20 - low) / (high - low), 0, 1) * 255
    assert np.abs(pixels_of(shown) - expected).max() <= 0.5
    assert (low, high) == tuple(np.percentile(RAMP * 20, (0.5, 99.5), method="nearest"))
    (full,) = convert(path, ConvertOptions(percentiles=(0, 100)))
    assert full.origin["range"] == [0, 2399 * 20]
    (windowed,) = convert(path, ConvertOptions(window=(24000, 16000)))
    assert windowed.origin["window"]["source"] == "option"
    assert np.abs(pixels_of(windowed) - np.clip((RAMP * 20 - 16000) / 16000, 0, 1) * 255).max() <= 0.5


@pytest.mark.parametrize("kind", [">u2", "<i4", "<f4"])
def test_every_deep_kind_is_shown_alike(tmp_path: Path, kind: str) -> None:
    expected = pixels_of(convert(save_pages(tmp_path / "first.tif", [deep()]))[0])
    shown = pixels_of(convert(save_pages(tmp_path / "other.tif", [deep(kind=kind)]))[0])
    assert np.array_equal(shown, expected)


def test_numbers_that_are_none_are_black_and_counted(tmp_path: Path) -> None:
    values = RAMP.astype(np.float32)
    values[0, :5] = np.nan
    (shown,) = convert(save_pages(tmp_path / "gaps.tif", [Image.fromarray(values)]))
    assert shown.origin["not_finite"] == 5
    assert pixels_of(shown)[0, :5].tolist() == [0] * 5
    assert pixels_of(shown)[39, 59] == 255


def test_pages_share_one_range(tmp_path: Path) -> None:
    path = save_pages(tmp_path / "stack.tif", [deep(1), deep(2), deep(4)])
    pages = convert(path)
    assert [one.name for one in pages] == ["stack-1.png", "stack-2.png", "stack-3.png"]
    assert [one.origin["frame"] for one in pages] == [1, 2, 3]
    assert len({tuple(one.origin["range"]) for one in pages}) == 1
    assert pixels_of(pages[0]).max() < pixels_of(pages[1]).max() < pixels_of(pages[2]).max() == 255
    assert [one.name for one in convert(path, ConvertOptions(every=2))] == ["stack-1.png", "stack-3.png"]


def test_thumbnails_among_the_pages_are_left_out(tmp_path: Path) -> None:
    small = Image.new("L", (5, 4), 9)
    small.encoderinfo = {"tiffinfo": {254: 1}}
    path = save_pages(tmp_path / "slide.tif", [Image.new("L", (50, 40), 7), small])
    (shown,) = convert(path)
    assert (shown.name, shown.width) == ("slide.png", 50)


def test_palette_cmyk_alpha_and_one_bit_look_as_they_should(tmp_path: Path) -> None:
    red = Image.new("RGB", (8, 6), (200, 30, 20))
    for image in (red.quantize(4), red.convert("CMYK")):
        (shown,) = convert(save_pages(tmp_path / "x.tif", [image]))
        assert np.abs(pixels_of(shown)[3, 3].astype(int) - (200, 30, 20)).max() <= 2
    (shown,) = convert(save_pages(tmp_path / "x.tif", [Image.new("RGBA", (8, 6), (200, 30, 20, 0))]))
    assert pixels_of(shown)[3, 3].tolist() == [255, 255, 255]
    checks = np.indices((6, 8)).sum(0) % 2 == 0
    (shown,) = convert(save_pages(tmp_path / "x.tif", [Image.fromarray(checks)], compression="group4"))
    assert np.array_equal(pixels_of(shown), checks * np.uint8(255))


def test_pages_that_count_from_white_are_turned_round(tmp_path: Path) -> None:
    """Photometric interpretation 0; Pillow does it for 8 bits, not for 16."""
    tags = ImageFileDirectory_v2()
    tags[262] = 0
    plain = pixels_of(convert(save_pages(tmp_path / "plain.tif", [deep()]))[0])
    data = bytearray((tmp_path / "plain.tif").read_bytes())
    entry = data.index(bytes([0x06, 0x01, 3, 0, 1, 0, 0, 0, 1, 0]))
    data[entry + 8] = 0
    (tmp_path / "white.tif").write_bytes(data)
    assert np.array_equal(pixels_of(convert(tmp_path / "white.tif")[0]), 255 - plain)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pages_are_turned_as_they_say(tmp_path: Path, orientation: int) -> None:
    corner = np.zeros((40, 60), np.uint16)
    corner[:10, :20] = 50_000
    path = save_pages(tmp_path / "turned.tif", [Image.fromarray(corner)], tiffinfo={274: orientation})
    (shown,) = convert(path, ConvertOptions(percentiles=(0, 100)))
    assert (shown.width, shown.height) == ((60, 40) if orientation < 5 else (40, 60))
    pixels = pixels_of(shown)
    places = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    assert pixels[places[orientation]] == 255
    assert (pixels > 0).sum() == 200


def test_names_and_descriptions_in_tags_do_not_leave(tmp_path: Path) -> None:
    told = {270: "Anna Miller", 315: "Dr. Grey", 306: "2020:01:01 10:00:00", 305: "Scanner of Anna Miller"}
    path = save_pages(tmp_path / "x.tif", [deep()], tiffinfo=told)
    assert b"Anna Miller" in path.read_bytes()
    (shown,) = convert(path)
    for words in (b"Miller", b"Grey", b"2020"):
        assert words not in shown.data
        assert words.decode() not in str(shown.origin)
    assert set(shown.origin) == {
        "file", "sha256", "format", "frame", "frames", "bits", "shown_by", "window", "range", "not_finite",
    }  # fmt: skip


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = save_pages(tmp_path / "cut.tif", [deep()])
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ConvertError, match=r"cut\.tif: the TIFF file is damaged or cut short .*; export it again"):
        convert(path)


def test_a_deep_page_among_many_flat_ones_is_shown(tmp_path: Path) -> None:
    """Percentiles look at 32 pages of a file, which may all be of 8 bits."""
    flat = Image.fromarray(np.indices((40, 60)).sum(0).astype(np.uint8))
    pages = convert(save_pages(tmp_path / "mixed.tif", [flat, deep(), *[flat] * 68]))
    assert len(pages) == 70
    assert pages[1].origin["shown_by"] == "percentiles"
    assert pixels_of(pages[1])[39, 59] == 255
