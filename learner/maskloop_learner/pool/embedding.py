"""Where images lie among each other: vectors of a frozen tower, kept as little-endian float16."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Select, exists, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import servable
from maskloop_learner.pool.schema import Embedding, Task

FORMAT = "<f2"
ROWS_AT_ONCE = 5000
Vector = NDArray[np.float32]


def has_embedding(session: Session, image_digest: str, space: str) -> bool:
    """Whether the image is embedded in the space, or is known not to be embeddable."""
    return session.get(Embedding, (image_digest, space)) is not None


def write_embedding(pool: Pool, image_digest: str, space: str, vector: Vector) -> bool:
    """Keep an image's vector, [D] of length 1; False when another worker, with the same vector, was first.

    Raises ValueError for a vector that is not finite or not of length 1.
    """
    if vector.ndim != 1 or not np.isfinite(vector).all() or abs(float(np.linalg.norm(vector)) - 1) > 1e-3:
        raise ValueError(
            f"the embedding of image {image_digest} must be a finite vector of length 1, got shape {vector.shape!r} "
            f"of length {float(np.linalg.norm(vector))!r}"
        )
    return _write(pool, Embedding(image_digest=image_digest, space=space, vector=vector.astype(FORMAT).tobytes()))


def note_unembeddable(pool: Pool, image_digest: str, space: str) -> bool:
    """Keep that the image cannot be embedded, as a vector without numbers; False when that was known."""
    return _write(pool, Embedding(image_digest=image_digest, space=space, vector=b""))


def _write(pool: Pool, row: Embedding) -> bool:
    key = row.image_digest, row.space
    try:
        with pool.write() as session:
            session.add(row)
    except IntegrityError:
        with pool.read() as session:
            if not has_embedding(session, *key):
                raise
        return False
    return True


def unembedded(session: Session, project_id: int, backbone: str, *, limit: int) -> Sequence[str]:
    """Digests of the project's images that lie in no space of the backbone yet."""
    there = exists().where(
        Embedding.image_digest == Task.image_digest, Embedding.space.startswith(f"{backbone}-", autoescape=True)
    )
    statement = (
        select(Task.image_digest)
        .where(*servable(project_id), Task.image_digest.is_not(None), ~there)
        .group_by(Task.image_digest)
        .order_by(func.min(Task.id))
        .limit(limit)
    )
    return [digest for digest in session.scalars(statement) if digest]


def find_space(session: Session, project_id: int) -> str | None:
    """The space in which most of the project's images are embedded; None where none is."""
    count = func.count(Task.id)
    statement = (
        select(Embedding.space)
        .join(Task, Task.image_digest == Embedding.image_digest)
        .where(*servable(project_id), func.length(Embedding.vector) > 0)
        .group_by(Embedding.space)
        .order_by(count.desc(), Embedding.space)
        .limit(1)
    )
    return session.scalar(statement)


def read_vectors(session: Session, tasks: Select[Any], space: str, ids: NDArray[np.int64]) -> Vector:
    """[N, D] of the tasks `ids`, each of which `tasks` selects: of length 1, or NaN where an image is not embedded."""
    where = {number: at for at, number in enumerate(ids.tolist())}
    statement = (
        select(Task.id, Embedding.vector)
        .join(Embedding, (Embedding.image_digest == Task.image_digest) & (Embedding.space == space))
        .where(Task.id.in_(tasks), func.length(Embedding.vector) > 0)
    )
    some = select(Embedding.vector).where(Embedding.space == space, func.length(Embedding.vector) > 0).limit(1)
    width = len(session.scalar(some) or b"") // 2
    found: Vector = np.full((len(ids), width), np.nan, np.float32)
    for number, data in session.connection().execute(statement, execution_options={"yield_per": ROWS_AT_ONCE}):
        if (at := where.get(number)) is not None:
            found[at] = np.frombuffer(data, FORMAT)
    # float16 leaves lengths that differ in the fourth digit, and order by that.
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found
