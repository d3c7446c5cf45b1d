"""What the store holds and nothing refers to any more: found by marking, removed with care.

A blob goes only when no row and no manifest refers to it, nobody has put it for `GRACE`, and no backup is being made.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from maskloop_learner.pool.holds import is_held
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.references import KINDS, find_references

log = logging.getLogger(__name__)

GRACE = timedelta(hours=24)
"""A blob is written before the row that refers to it; no writer takes as long as this from one to the other."""
SLICES = "0123456789abcdef"
"""First digits of digests: a slice is looked through at once, which bounds memory and time."""
_LOOK_EVERY = 100


@dataclass
class Swept:
    """What was removed, or would be: blobs and bytes by kind."""

    blobs: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    bytes: int = 0
    held: bool = False
    """A backup was being made, so not all was looked at."""

    def add(self, other: "Swept") -> None:
        """Count another slice in."""
        for kind, count in other.blobs.items():
            self.blobs[kind] += count
        self.bytes += other.bytes
        self.held |= other.held

    @property
    def count(self) -> int:
        """All blobs."""
        return sum(self.blobs.values())


def sweep_store(
    pool: Pool,
    *,
    prefix: str = "",
    grace: timedelta = GRACE,
    dry_run: bool = False,
    beat: Callable[[], None] = lambda: None,
) -> Swept:
    """Remove the blobs, of digests that begin with `prefix`, that nothing refers to; with `dry_run` only count them.

    `beat` is called from time to time. Raises StoreError, and removes nothing, when a manifest cannot be read.
    """
    swept = Swept()
    # Listed first: what is put from now on is not looked at at all.
    there = {kind: list(pool.store.list_blobs(kind, prefix)) for kind in KINDS}
    beat()
    with pool.read() as session:
        wanted = find_references(session, pool.store, prefix=prefix)
    for kind, digests in there.items():
        for number, digest in enumerate(digests):
            if number % _LOOK_EVERY == 0:
                beat()
                if is_held(pool):
                    log.info("the store is not cleaned while a backup is made")
                    swept.held = True
                    return swept
            if digest in wanted[kind]:
                continue
            size = pool.store.size(kind, digest) if pool.store.exists(kind, digest) else 0
            old = pool.store.is_older(kind, digest, grace) if dry_run else pool.store.discard(kind, digest, grace=grace)
            if old:
                swept.blobs[kind] += 1
                swept.bytes += size
    return swept
