"""Times of several ways to do the same, taken in turn: what else the machine does then hits all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch.nn import functional as F


def time_in_turn(
    ways: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    warm: bool = True,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of each way, `repeats` times in turn, after one untimed turn where `warm`."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + warm):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if turn >= warm:
                found[name].append(time.perf_counter() - started)
            tick()
    return found


def median_ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Median over the turns of how many times faster `fast` was."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def measure_products(dtype: torch.dtype, *, repeats: int = 15) -> float:
    """GFLOPS of this machine's matrix products, at a ViT-B block's shape: what a model cannot exceed."""
    rows, width, grown = 985, 768, 3072
    x, weight = torch.randn((rows, width)).to(dtype), torch.randn((grown, width)).to(dtype)
    with torch.inference_mode():
        seconds = time_in_turn({"product": lambda: F.linear(x, weight)}, repeats=repeats)["product"]
    return 2 * rows * width * grown / statistics.median(seconds) / 1e9
