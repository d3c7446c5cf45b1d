"""Splits rows into requests that are bounded in number and bytes."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Row = TypeVar("Row")


def batches(
    rows: Iterable[Row], most: int, size: Callable[[Row], int], most_bytes: int = 50_000_000
) -> Iterator[list[Row]]:
    """Lists of at most `most` rows and `most_bytes` together; a row larger than that goes alone."""
    batch: list[Row] = []
    total = 0
    for row in rows:
        weight = size(row)
        if batch and (len(batch) >= most or total + weight > most_bytes):
            yield batch
            batch, total = [], 0
        batch.append(row)
        total += weight
    if batch:
        yield batch
