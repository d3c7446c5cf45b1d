"""Times of the brush RLE codec against label-studio-sdk's at 1024 x 1024, both in this one run.

python scripts/bench_rle.py [--json]
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from label_studio_sdk.converter import brush
from scipy import ndimage

from maskloop_backend.masks.rle import decode_rle, encode_rle
from maskloop_learner.pool.masks import Mask

SIZE = 1024


def draw_masks() -> dict[str, Mask]:
    """An ellipse, smooth blobs, and ragged specks, like an organ, a tissue and a noisy prediction."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    return {
        "ellipse": ((rows - 500) / 300) ** 2 + ((columns - 500) / 400) ** 2 < 1,
        "blobs": ndimage.gaussian_filter(rng.random((SIZE, SIZE)), 12) > 0.5,
        "ragged": ndimage.gaussian_filter(rng.random((SIZE, SIZE)), 1.5) > 0.5,
    }


def time_ms(call: Callable[[], Any], repeats: int) -> float:
    """The best of some calls, in milliseconds."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best * 1000


def measure(mask: Mask) -> dict[str, float]:
    """Ints of the RLE and milliseconds of both codecs; checks that they agree."""
    values = mask.astype(np.uint8) * 255
    rle = encode_rle(mask)
    if rle != brush.mask2rle(values) or not np.array_equal(decode_rle(rle, width=SIZE, height=SIZE), mask):
        raise SystemExit("the codec and label-studio-sdk do not agree")
    return {
        "ints": len(rle),
        "encode_ms": time_ms(lambda: encode_rle(mask), 7),
        "encode_sdk_ms": time_ms(lambda: brush.mask2rle(values), 2),
        "decode_ms": time_ms(lambda: decode_rle(rle, width=SIZE, height=SIZE), 7),
        "decode_sdk_ms": time_ms(lambda: brush.decode_rle(rle), 2),
    }


def main() -> None:
    """Print one line per mask, or JSON."""
    figures = {name: measure(mask) for name, mask in draw_masks().items()}
    if "--json" in sys.argv[1:]:
        print(json.dumps(figures, indent=1))
        return
    for name, figure in figures.items():
        line = f"{name:8} {figure['ints']:7.0f} ints"
        for way in ("encode", "decode"):
            ours, sdk = figure[f"{way}_ms"], figure[f"{way}_sdk_ms"]
            line += f"   {way} {ours:6.2f} ms, SDK {sdk:7.1f} ms, ratio {sdk / ours:5.1f}"
        print(line)


if __name__ == "__main__":
    main()
