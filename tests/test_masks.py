"""Masks keep their pixels as files, and are tidied by their settings."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from maskloop_learner.pool.masks import Mask, MaskError, clean_mask, decode_mask, encode_mask

any_mask = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=24))


def png(pixels: NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def picture(*rows: str) -> Mask:
    return np.array([[character == "#" for character in row] for row in rows])


@given(mask=any_mask)
def test_a_mask_comes_back_and_is_a_0_255_png(mask: Mask) -> None:
    data = encode_mask(mask)
    assert np.array_equal(decode_mask(data), mask)
    assert data == encode_mask(np.asfortranarray(mask))
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        assert set(np.unique(np.asarray(image)).tolist()) <= {0, 255}


@pytest.mark.parametrize("mask", [np.zeros((2, 2)), np.zeros(4, dtype=bool), np.zeros((0, 4), dtype=bool)])
def test_what_is_no_mask_is_not_encoded(mask: NDArray[np.bool_]) -> None:
    with pytest.raises(MaskError, match="bool H x W"):
        encode_mask(mask)


def test_peoples_mask_files_are_read() -> None:
    mask = ndimage.gaussian_filter(np.random.default_rng(0).random((30, 40)), 3) > 0.5
    grey = mask.astype(np.uint8) * 255
    files = {
        "0/1": png(mask.astype(np.uint8)),
        "1-bit": png(mask),
        "colour": png(np.stack([grey] * 3, -1)),
        "opaque alpha": png(np.stack([grey] * 3 + [np.full_like(grey, 255)], -1)),
        "16-bit": png(grey.astype(np.uint16) * 257),
        "anti-aliased": png(np.where(mask, 200, 90).astype(np.uint8)),
    }
    for name, data in files.items():
        assert np.array_equal(decode_mask(data), mask), name
    assert not decode_mask(png(np.zeros((3, 4), dtype=np.uint8))).any()


def test_unreadable_masks_are_refused_by_name() -> None:
    with pytest.raises(MaskError, match=r"^liver\.png: the file is empty"):
        decode_mask(b"", name="liver.png")
    with pytest.raises(MaskError, match=r"^liver\.png: the PNG file is damaged"):
        decode_mask(encode_mask(np.ones((30, 30), dtype=bool))[:60], name="liver.png")
    transparent = np.zeros((4, 4, 4), dtype=np.uint8)
    with pytest.raises(MaskError, match="transparency; save it as grey"):
        decode_mask(png(transparent))


def test_specks_go_and_holes_are_filled() -> None:
    mask = picture(
        "#......#####",
        ".......#...#",
        "..##...#.#.#",
        ".#.....#...#",
        ".......#####",
        "........#.##",
    )
    kept = picture(
        ".......#####",
        ".......#####",
        "..##...#####",
        ".#.....#####",
        ".......#####",
        "........#.##",
    )
    before = mask.copy()
    # the three pixels are joined by a corner and stay, the single ones go; 9 pixels of hole are below 10; the
    # gap at the border is no hole
    assert np.array_equal(clean_mask(mask, min_speck_area=2, max_hole_area=10), kept)
    assert np.array_equal(mask, before)
    assert not clean_mask(mask, min_speck_area=2, max_hole_area=9)[1, 8]
    assert not clean_mask(mask, min_speck_area=100, max_hole_area=0).any()


@settings(max_examples=200)
@given(mask=any_mask, speck=st.integers(0, 12), hole=st.integers(0, 12))
def test_cleaning_keeps_its_word(mask: Mask, speck: int, hole: int) -> None:
    cleaned = clean_mask(mask, min_speck_area=speck, max_hole_area=hole)
    parts, count = ndimage.label(cleaned, structure=np.ones((3, 3)))
    assert all((parts == number).sum() >= speck for number in range(1, count + 1))
    gaps, count = ndimage.label(~cleaned)
    inner = set(range(1, count + 1)) - set(np.concatenate([gaps[0], gaps[-1], gaps[:, 0], gaps[:, -1]]).tolist())
    assert all((gaps == number).sum() >= hole for number in inner)
    assert np.array_equal(clean_mask(cleaned, min_speck_area=speck, max_hole_area=hole), cleaned)
    if speck <= 1 and hole <= 1:
        assert np.array_equal(cleaned, mask)
