"""Memory that is freed is kept for the next tensor."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
LARGEST = 2**31 - 1
SPARE = 64 * 2**20


def keep_freed_memory() -> bool:
    """Ask the C library not to give freed memory back to the system; whether it could be asked (glibc only).

    A pass makes hundreds of tensors of some ten megabytes. glibc takes each from the system and gives it back, and the
    system clears every page of it anew. Call it once, at the start of a process that predicts or trains; such a
    process stays at its largest size.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(
        mallopt(name, value) for name, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, LARGEST), (M_TOP_PAD, SPARE))
    )
