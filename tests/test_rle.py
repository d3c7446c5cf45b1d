"""The brush RLE is the SDK's to the byte, and whatever arrives is a mask or an RleError."""

import random
import struct
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.converter import brush
from numpy.typing import NDArray
from scipy import ndimage

from maskloop_backend.masks.rle import RleError, decode_rle, encode_rle
from maskloop_learner.pool.masks import Mask


def sdk_rle(mask: Mask) -> list[int]:
    rle: list[int] = brush.mask2rle(mask.astype(np.uint8) * 255)
    return rle


def decode(rle: Any, mask: Mask | NDArray[np.uint8]) -> Mask:
    return decode_rle(rle, width=mask.shape[1], height=mask.shape[0])


def thousand_masks() -> Iterator[Mask]:
    """Noise of all densities, blobs, stripes and checkers of many sizes, seeded."""
    rng = np.random.default_rng(7)
    for number in range(1000):
        height, width = (int(side) for side in rng.integers(1, 70, 2))
        if number % 10 == 0:
            height, width = (1, int(rng.integers(1, 3000))) if number % 20 else (int(rng.integers(1, 3000)), 1)
        noise = rng.random((height, width))
        kind = number % 5
        if kind == 0:
            yield noise < rng.choice([0.001, 0.05, 0.5, 0.95, 0.999])
        elif kind == 1:
            yield ndimage.gaussian_filter(noise, rng.uniform(0.5, 5)) > 0.5
        elif kind == 2:
            yield np.repeat(noise[:, :5] < 0.5, int(rng.integers(1, 80)), axis=1)
        elif kind == 3:
            yield np.indices((height, width)).sum(0) // rng.integers(1, 9) % 2 == 0
        else:
            yield np.broadcast_to(noise[:1, :1] < 0.5, (height, width)).copy()


def edge_masks() -> dict[str, Mask]:
    """Runs around every limit of the format: 8, 16, 256, 65536 values, i.e. a quarter of that in pixels."""
    masks = {
        "one pixel": np.ones((1, 1), dtype=bool),
        "no pixel": np.zeros((1, 1), dtype=bool),
        "checkers": np.indices((33, 41)).sum(0) % 2 == 0,
        "not contiguous": np.asfortranarray(np.random.default_rng(0).random((20, 30)) < 0.5)[::2, ::-1],
    }
    for run in (1, 2, 3, 4, 5, 63, 64, 65, 16383, 16384, 16385, 32767, 32768, 32769, 50000):
        masks[f"{run} alike"] = np.ones((1, run), dtype=bool)
        both = np.zeros((1, run + 3), dtype=bool)
        both[:, 1 : run + 1] = True
        masks[f"{run} inside"] = both
        masks[f"{run} outside"] = ~both
    return masks


def test_byte_identical_with_the_sdk_on_1000_random_masks() -> None:
    shapes = set()
    for mask in thousand_masks():
        rle = encode_rle(mask)
        assert rle == sdk_rle(mask)
        assert all(type(value) is int for value in rle[:9])
        assert np.array_equal(decode(rle, mask), mask)
        shapes.add(mask.shape)
    assert len(shapes) > 700


@pytest.mark.parametrize("name", edge_masks())
def test_byte_identical_at_the_limits_of_the_format(name: str) -> None:
    mask = edge_masks()[name]
    assert encode_rle(mask) == sdk_rle(mask)
    assert np.array_equal(decode(encode_rle(mask), mask), mask)


def test_a_large_ragged_mask_in_several_pieces() -> None:
    mask = np.random.default_rng(3).random((700, 700)) < 0.5
    rle = encode_rle(mask)
    assert len(rle) > 3 * (1 << 17)
    assert np.array_equal(decode(rle, mask), mask)


def test_anti_aliased_alpha_counts_above_127() -> None:
    """A brush stroke as the page writes it: R = G = B = alpha, soft at the edge."""
    rows, columns = np.mgrid[:60, :80]
    alpha = np.clip(255 * (12.5 - np.hypot(rows - 30, columns - 40)) / 4, 0, 255).astype(np.uint8)
    assert 20 < len(np.unique(alpha)) < 256
    rle = brush.encode_rle(np.repeat(alpha.ravel(), 4))
    assert np.array_equal(decode(rle, alpha), alpha > 127)


def test_colours_and_single_values_are_read_too() -> None:
    rng = np.random.default_rng(5)
    for _ in range(40):
        rgba = rng.integers(0, 256, (*rng.integers(1, 30, 2), 4)).astype(np.uint8)
        assert np.array_equal(decode(brush.encode_rle(rgba.ravel()), rgba[..., 0]), rgba[..., 3] > 127)


def pack(values: list[int], *, literal: int, sizes: tuple[int, ...], rng: random.Random) -> list[int]:
    """rle-pack as other writers may: any sizes of counts, words as they are in stretches of up to `literal`."""
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    at = 0
    while at < len(values):
        index = rng.randrange(4)
        run = 1
        while at + run < len(values) and values[at + run] == values[at] and run < 1 << sizes[index]:
            run += 1
        if run > 2:
            bits += f"1{index:02b}{run - 1:0{sizes[index]}b}{values[at]:08b}"
            at += run
        else:
            words = values[at : at + min(literal, 1 << sizes[index])]
            bits += f"0{index:02b}{len(words) - 1:0{sizes[index]}b}" + "".join(f"{word:08b}" for word in words)
            at += len(words)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def test_words_as_they_are_and_other_count_sizes() -> None:
    rng = random.Random(11)
    for number in range(150):
        width, height = rng.randint(1, 25), rng.randint(1, 25)
        values = [rng.choice([0, 127, 128, 255]) for _ in range(width * height * 4)]
        if number % 2:
            values = [value for value in values for _ in range(4)][: width * height * 4]
        sizes = rng.choice([(3, 4, 8, 16), (1, 2, 3, 4), (16, 1, 5, 11)])
        rle = pack(values, literal=rng.choice([1, 3, 50, 5000]), sizes=sizes, rng=rng)
        expected = np.array(values[3::4]).reshape(height, width) > 127
        assert np.array_equal(decode_rle(rle, width=width, height=height), expected)


GOOD = encode_rle(np.indices((20, 30)).sum(0) % 7 < 3)


@pytest.mark.parametrize(
    "rle",
    [
        None,
        5,
        "0,12,0,0",
        b"\0\14",
        {"rle": GOOD},
        [],
        [0] * 6,
        [0] * 100,
        [255] * 100,
        [*GOOD[:20], 256, *GOOD[21:]],
        [*GOOD[:20], -1, *GOOD[21:]],
        [*GOOD[:20], 3.0, *GOOD[21:]],
        [*GOOD[:20], None, *GOOD[21:]],
        [*GOOD[:20], "7", *GOOD[21:]],
        [*GOOD[:20], [7], *GOOD[21:]],
        [*GOOD[:4], 255, *GOOD[5:]],
        encode_rle(np.ones((30, 31), dtype=bool)),
        list(struct.pack(">I", 0xFFFFFFFF)) + GOOD[4:],
    ],
)
def test_what_is_no_rle_of_the_image_is_an_rle_error(rle: Any) -> None:
    with pytest.raises(RleError, match=r"RLE"):
        decode_rle(rle, width=30, height=20)


@pytest.mark.parametrize("size", [0, -3, 2.0, "30", None, True])
def test_a_bad_image_size_is_an_rle_error(size: Any) -> None:
    with pytest.raises(RleError, match="positive whole number"):
        decode_rle(GOOD, width=size, height=20)


def test_every_truncation_is_found() -> None:
    for length in range(len(GOOD) - 1):
        with pytest.raises(RleError, match="cut short"):
            decode_rle(GOOD[:length], width=30, height=20)


def test_damage_never_raises_anything_else() -> None:
    rng = random.Random(2)
    for _ in range(1500):
        damaged = list(GOOD)
        for _ in range(rng.randint(1, 8)):
            damaged[rng.randrange(4, len(damaged))] = rng.randrange(256)
        try:
            mask = decode_rle(damaged[: rng.randint(7, len(damaged))], width=30, height=20)
        except RleError:
            continue
        assert mask.shape == (20, 30)


def test_absurd_lengths_allocate_little() -> None:
    huge = list(struct.pack(">I", 0xFFFFFFFC)) + GOOD[4:]
    longest_runs = GOOD[:7] + [0xFF] * 300_000
    tracemalloc.start()
    try:
        with pytest.raises(RleError, match="an image of 30 x 20 pixels has 2400"):
            decode_rle(huge, width=30, height=20)
        with pytest.raises(RleError, match="pixels has 4000000000000000000"):
            decode_rle(huge, width=10**9, height=10**9)
        decode_rle(longest_runs, width=30, height=20)
        assert tracemalloc.get_traced_memory()[1] < 30 * 20 * 4 + 2 * 2**20
    finally:
        tracemalloc.stop()


def test_what_has_no_rle_is_not_encoded() -> None:
    masks: list[Any] = [np.zeros((2, 2)), np.zeros(4, dtype=bool), np.zeros((0, 3), dtype=bool)]
    for mask in masks:
        with pytest.raises(RleError, match="bool H x W"):
            encode_rle(mask)
