"""Which blobs the pool refers to: the one list that clean-up and backup go by.

Every column of the schema that holds digests is named here, and a test fails when one is added that is not.
"""

import re
from collections.abc import Iterator
from typing import Any, get_args

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from maskloop_learner.pool.schema import Embedding, Image, Label, Model, Prediction, Rank, Score, Snapshot, Task
from maskloop_learner.pool.store import BlobError, Kind, Store, StoreError

KINDS: tuple[Kind, ...] = get_args(Kind)
COLUMNS: dict[InstrumentedAttribute[Any], Kind] = {
    Image.digest: "images",
    Task.image_digest: "images",
    Prediction.image_digest: "images",
    Rank.image_digest: "images",
    Embedding.image_digest: "images",
    Score.mask_digest: "masks",
    Score.map_digest: "maps",
    Model.weights_digest: "weights",
    Model.manifest_digest: "manifests",
    Snapshot.digest: "manifests",
}
JSON_COLUMNS: dict[InstrumentedAttribute[Any], Kind] = {Label.masks: "masks"}
"""Columns whose JSON object has digests as values."""
_DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_AT_ONCE = 5000

References = dict[Kind, set[str]]


class BrokenManifest(StoreError):
    """A manifest cannot be read, so nobody knows what it refers to."""


def find_references(session: Session, store: Store, *, prefix: str = "", lenient: bool = False) -> References:
    """Digests by kind, those that begin with `prefix`, that rows of the pool or their manifests refer to.

    Weights of pruned models count no more. Whatever looks like a digest in a manifest counts for every kind, so that
    a later release's manifests are heeded too. Raises BrokenManifest when a manifest that is there cannot be read;
    `lenient`: what that one names is not known then.
    """
    found = find_rows_references(session, prefix=prefix)
    inner = set(find_inner_references(session, store, prefix=prefix, lenient=lenient))
    # The manifest of a pruned model goes on naming what was removed.
    pruned = set(session.scalars(select(Model.weights_digest).where(Model.pruned_at.is_not(None))))
    for kind in KINDS:
        found[kind] |= inner - pruned if kind == "weights" else inner
    return found


def find_rows_references(session: Session, *, prefix: str = "") -> References:
    """Digests by kind, those that begin with `prefix`, that rows of the pool name themselves."""
    found: References = {kind: set() for kind in KINDS}
    for column, kind in COLUMNS.items():
        statement = select(column).where(column.startswith(prefix)).distinct()
        if column is Model.weights_digest:
            statement = statement.where(Model.pruned_at.is_(None))
        found[kind].update(session.scalars(statement))
    for column, kind in JSON_COLUMNS.items():
        for value in session.scalars(select(column)).yield_per(_AT_ONCE):
            found[kind].update(digest for digest in (value or {}).values() if digest.startswith(prefix))
    return found


def find_inner_references(session: Session, store: Store, *, prefix: str = "", lenient: bool = False) -> Iterator[str]:
    """Digests, of whatever kind, that the manifests of snapshots and models name. Raises like `find_references`."""
    wanted: set[str] = set()
    for column, kind in COLUMNS.items():
        if kind == "manifests":
            wanted.update(session.scalars(select(column).where(column.is_not(None))))
    for digest in sorted(wanted):
        if not store.exists("manifests", digest):
            continue  # it is lost; what it named is named by labels and models too
        try:
            content = store.get("manifests", digest)
        except BlobError as error:
            if lenient:
                continue
            raise BrokenManifest(f"manifest {digest} cannot be read: {error}") from error
        yield from (text for match in _DIGEST.findall(content) if (text := match.decode()).startswith(prefix))
