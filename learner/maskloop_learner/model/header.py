"""What a weights file says of itself, read without torch: its metadata, and that its tensors are all there."""

import json
from typing import Any

FORMAT = "maskloop-medclipseg/1"
ENTRY = "maskloop"
META = "__metadata__"
_COUNT = 8
"""Bytes of the header's length."""


class CheckpointError(ValueError):
    """A weights file that cannot be used; the message names what is wrong in it."""


def read_meta(data: bytes) -> dict[str, object]:
    """A weights file's metadata, without its tensors. Raises CheckpointError when it is no such file."""
    try:
        meta: dict[str, object] = json.loads(_header(data)[META][ENTRY])
        found = meta["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"weights of {len(data)} bytes are not a Maskloop safetensors file ({error!r}); "
            "the file is cut short or of another program: fetch or train it again"
        ) from error
    if found != FORMAT:
        raise CheckpointError(f"weights must be of format {FORMAT!r}, got {found!r}; train the model again")
    return meta


def check_layout(data: bytes) -> None:
    """Raises CheckpointError unless the file is ours and as long as its header says."""
    read_meta(data)
    start = _COUNT + int.from_bytes(data[:_COUNT], "little")
    try:
        ends = [int(entry["data_offsets"][1]) for name, entry in _header(data).items() if name != META]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CheckpointError(f"the header of the weights is damaged ({error!r}); fetch or train them again") from error
    if len(data) != start + max(ends, default=0):
        raise CheckpointError(
            f"weights must be {start + max(ends, default=0)} bytes by their header, got {len(data)}; "
            "the file is cut short: fetch or train it again"
        )


def _header(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(data[_COUNT : _COUNT + int.from_bytes(data[:_COUNT], "little")])
    return found
