"""Where images lie among each other: vectors of a frozen tower, kept as little-endian float16."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Select, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import servable
from maskloop_learner.pool.schema import Embedding, Task

FORMAT = "<f2"
ROWS_AT_ONCE = 5000
Vector = NDArray[np.float32]


def has_embedding(session: Session, image_digest: str, space: str) -> bool:
    """Whether the image is embedded in the space."""
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
    row = Embedding(image_digest=image_digest, space=space, vector=vector.astype(FORMAT).tobytes())
    try:
        with pool.write() as session:
            session.add(row)
    except IntegrityError:
        with pool.read() as session:
            if not has_embedding(session, image_digest, space):
                raise
        return False
    return True


def find_space(session: Session, project_id: int) -> str | None:
    """The space in which most of the project's images are embedded; None where none is."""
    count = func.count(Task.id)
    statement = (
        select(Embedding.space)
        .join(Task, Task.image_digest == Embedding.image_digest)
        .where(*servable(project_id))
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
        .where(Task.id.in_(tasks))
        .execution_options(yield_per=ROWS_AT_ONCE)
    )
    width = len(session.scalar(select(Embedding.vector).where(Embedding.space == space).limit(1)) or b"") // 2
    found: Vector = np.full((len(ids), width), np.nan, np.float32)
    for number, data in session.execute(statement):
        if (at := where.get(number)) is not None:
            found[at] = np.frombuffer(data, FORMAT)
    # float16 leaves lengths that differ in the fourth digit, and order by that.
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found
