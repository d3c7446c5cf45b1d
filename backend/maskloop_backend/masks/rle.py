"""Label Studio's brush RLE, vectorised; byte for byte what label_studio_sdk.converter.brush writes.

The format is thi.ng's rle-pack, bits from the left: 32 bits number of values, 5 bits word size - 1, four times
4 bits size of a count - 1; then tokens of 1 bit kind, 2 bits which size, count - 1, and one word for a run of
that many equal values or that many words as they are. The values are R, G, B, A of every pixel.
"""

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskloop_learner.pool.masks import Mask

_COUNT_BITS = np.array([3, 4, 8, 16])
_LONGEST = 1 << 16
_HEADER_BITS = 53
_HEADER_BYTES = 7
_KIND_BITS = 3
_WORD_BITS = 8
_LONGEST_TOKEN = _KIND_BITS + 16 + _WORD_BITS
_PIECE = 1 << 17
"""Bytes decoded at a time: bounds the memory for working values."""


class RleError(ValueError):
    """A mask that has no RLE, or an RLE that has no mask; the message says what is wrong."""


def encode_rle(mask: Mask) -> list[int]:
    """Brush RLE of a mask: 255 in all four channels inside, 0 outside.

    mask: bool H x W, at least one pixel, fewer than 2^30. Returns bytes as ints 0..255.
    Raises RleError for another type, shape or size.
    """
    if mask.dtype != np.bool_ or mask.ndim != 2 or not 0 < mask.size < 1 << 30:
        raise RleError(f"a mask must be bool H x W with 1 to 2^30 pixels, got {mask.dtype} {mask.shape}")
    flat = mask.ravel()
    borders = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate(([0], borders))
    runs = np.diff(starts, append=flat.size) * 4
    pieces = (runs + _LONGEST - 1) // _LONGEST
    counts = np.full(pieces.sum(), _LONGEST)
    counts[np.cumsum(pieces) - 1] = runs - (pieces - 1) * _LONGEST
    inside = np.repeat(flat[starts], pieces)
    size_index = np.searchsorted([8, 16, 256], counts)
    # what is left of a run that was longer than the longest token keeps that token's size
    size_index[np.repeat(pieces > 1, pieces)] = 3
    count_bits = _COUNT_BITS[size_index]
    token_bits = _KIND_BITS + count_bits + _WORD_BITS
    kinds = (4 | size_index) << count_bits | (counts - 1)
    tokens = kinds << _WORD_BITS | np.where(inside, 255, 0)
    header_low = (_WORD_BITS - 1) << 16 | 0x237F
    packed = _pack_bits(
        np.concatenate(([flat.size * 4, header_low], tokens)).astype(np.uint64),
        np.concatenate(([32, _HEADER_BITS - 32], token_bits)),
    )
    return list(packed)


def decode_rle(rle: list[int], *, width: int, height: int) -> Mask:
    """The mask of a brush RLE of an image of width x height pixels: True where alpha is above 127.

    Reads what Label Studio's pages write (anti-aliased alpha) and what its SDK writes. Raises RleError for
    anything that is not the RLE of such an image; memory stays within width * height * 4 bytes and a few MiB.
    """
    data = _read_header(rle, width, height)
    values = np.frombuffer(data.bytes_, dtype=np.uint8)
    total = width * height * 4
    alpha = np.zeros(width * height, dtype=np.bool_)
    position, done = _HEADER_BITS, 0
    while done < total:
        if position >= data.bits:
            raise RleError(f"the RLE ends after {done} of {total} values; it was cut short")
        starts, position = _find_tokens(data, position)
        kinds, counts, words = _read_tokens(values, starts, data.sizes)
        ends = np.minimum(done + np.cumsum(counts), total)
        last = int(np.searchsorted(ends, total)) + 1
        starts, kinds, words, ends = starts[:last], kinds[:last], words[:last], ends[:last]
        begins = np.concatenate(([done], ends[:-1]))
        is_run = kinds >= 4
        length = np.where(is_run, 1, ends - begins) * _WORD_BITS
        if np.any(words + length > data.bits):
            raise RleError(f"the RLE ends within its values {begins[-1]} to {ends[-1]} of {total}; it was cut short")
        first = done // 4
        done = int(ends[-1])
        # value 4 n + 3 is alpha of pixel n, and the first bit of a word tells whether it is above 127
        high = (values[words >> 3] << (words & 7) & 128 > 0) & is_run
        alpha[first : done // 4] = np.repeat(high, ends // 4 - begins // 4)
        for token in np.flatnonzero(~is_run).tolist():
            begin, end = int(begins[token]), int(ends[token])
            bit = int(words[token]) + (3 - begin % 4) * _WORD_BITS
            pixels = end // 4 - begin // 4
            column = values[bit >> 3 :: 4][:pixels]
            alpha[begin // 4 : end // 4] = column << (bit & 7) & 128 > 0
    return alpha.reshape(height, width)


class _Data(NamedTuple):
    """bytes_: the RLE and 8 zero bytes; bits: its length without them; sizes: bits of the four counts."""

    bytes_: bytes
    bits: int
    sizes: list[int]


def _pack_bits(codes: NDArray[np.uint64], lengths: NDArray[np.int64]) -> bytes:
    """Join codes of up to 32 bits; the rest of the last byte, or one byte more, is zero as in the SDK."""
    ends = np.cumsum(lengths)
    total = int(ends[-1])
    starts = ends - lengths
    # a code lies in at most two neighbouring 32-bit words
    shifted = codes << (64 - lengths - (starts & 31)).astype(np.uint64)
    word = starts >> 5
    first = np.flatnonzero(np.diff(word, prepend=-1))
    packed = np.zeros(total // 32 + 3, dtype=np.uint64)
    packed[word[first]] += np.add.reduceat(shifted >> np.uint64(32), first)
    packed[word[first] + 1] += np.add.reduceat(shifted & np.uint64(0xFFFFFFFF), first)
    return packed.astype(">u4").tobytes()[: total // 8 + 1]


def _read_header(rle: list[int], width: int, height: int) -> _Data:
    """Check an RLE's type, header and length against the image."""
    for name, value in (("width", width), ("height", height)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise RleError(f"the image's {name} must be a positive whole number, got {value!r}")
    if not isinstance(rle, list):
        raise RleError(f"an RLE is a list of whole numbers 0..255, got {type(rle).__name__}")
    total = width * height * 4
    longest = (_HEADER_BITS + total * _LONGEST_TOKEN) // 8 + 1
    try:
        data = bytes(rle[:longest])
    except (TypeError, ValueError) as error:
        raise RleError(f"an RLE is a list of whole numbers 0..255: {error}") from error
    if len(data) < _HEADER_BYTES:
        raise RleError(f"the RLE has {len(data)} bytes, less than its header; it was cut short")
    number, rest = struct.unpack(">IxxxxI", data[:4] + bytes(4) + data[4:7] + b"\0")
    if number != total:
        raise RleError(f"the RLE has {number} values, an image of {width} x {height} pixels has {total}")
    word_bits = (rest >> 27) + 1
    if word_bits != _WORD_BITS:
        raise RleError(f"the RLE has words of {word_bits} bits, Label Studio writes 8")
    return _Data(data + bytes(8), len(data) * 8, [(rest >> shift & 15) + 1 for shift in (23, 19, 15, 11)])


def _find_tokens(data: _Data, position: int) -> tuple[NDArray[np.int64], int]:
    """Where tokens start from a bit position on, in one piece of the data, and where the next piece begins."""
    base = position >> 3
    piece = data.bytes_[base : base + _PIECE + 8]
    bits = np.unpackbits(np.frombuffer(piece, dtype=np.uint8))
    kinds = bits[:-2] << 2 | bits[1:-1] << 1 | bits[2:]
    runs = [_KIND_BITS + size + _WORD_BITS for size in data.sizes]
    # how far the next token is if one starts at this bit; 0 where it must be counted
    steps = np.array([0, 0, 0, 0, *runs], dtype=np.uint8)[kinds].tobytes()
    end = min(_PIECE * 8, data.bits - base * 8)
    at = position - base * 8
    starts: list[int] = []
    append = starts.append
    while at < end:
        append(at)
        step = steps[at]
        if not step:
            size = data.sizes[int(kinds[at])]
            window = int.from_bytes(piece[at >> 3 : (at >> 3) + 4].ljust(4, b"\0"), "big")
            count = (window >> (32 - (at & 7) - _KIND_BITS - size) & (1 << size) - 1) + 1
            step = _KIND_BITS + size + count * _WORD_BITS
        at += step
    return np.array(starts, dtype=np.int64) + base * 8, base * 8 + at


def _read_tokens(
    values: NDArray[np.uint8], starts: NDArray[np.int64], sizes: list[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Kind (4 and above: a run), count and the bit where the words begin, of the tokens at these bits."""
    byte = starts >> 3
    # kind and count are at most 19 bits, so with the offset in the byte they lie in 4 bytes
    window: NDArray[np.int64] = np.zeros(len(starts), dtype=np.int64)
    for offset in range(4):
        window = window << 8 | values[byte + offset]
    window = window << (starts & 7) & 0xFFFFFFFF
    kinds = window >> 29
    count_bits = np.array(sizes)[kinds & 3]
    counts = (window >> (29 - count_bits) & (1 << count_bits) - 1) + 1
    return kinds, counts, starts + _KIND_BITS + count_bits
