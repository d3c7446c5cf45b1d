"""The looks of images, out of the pool, or worked out where they are not in it yet."""

import logging
from collections.abc import Collection, Iterator, Sequence

from sqlalchemy import select

from maskloop_learner.pool.images import ImageError, decode_image
from maskloop_learner.pool.looks import Look, look_at
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Image
from maskloop_learner.pool.store import BlobError

log = logging.getLogger(__name__)

AT_ONCE = 500
WRITTEN_AT_ONCE = 50
"""Of images that are looked at: the work of a killed process is not lost."""


def look_at_images(pool: Pool, digests: Collection[str], *, write: bool) -> dict[str, Look]:
    """Image digest -> what it looks like. With `write`, what had to be worked out is kept in the pool.

    An image that is missing or cannot be read is left out: it resembles nothing.
    """
    found: dict[str, Look] = {}
    wanted = sorted(digests)
    for some in _pieces(wanted, AT_ONCE):
        with pool.read() as session:
            statement = select(Image.digest, Image.phash, Image.thumbnail).where(Image.digest.in_(some))
            rows = session.execute(statement).all()
        for digest, phash, thumbnail in rows:
            if phash is not None and thumbnail is not None:
                found[digest] = Look(phash, thumbnail)
    for some in _pieces([digest for digest in wanted if digest not in found], WRITTEN_AT_ONCE):
        new = {digest: look for digest in some if (look := _look(pool, digest)) is not None}
        found |= new
        if write and new:
            _write(pool, new)
    return found


def _look(pool: Pool, digest: str) -> Look | None:
    try:
        return look_at(decode_image(pool.store.get("images", digest), name=f"image {digest[:12]}"))
    except (BlobError, ImageError) as error:
        log.warning("it is not looked for images like %s: %s", digest[:12], error)
        return None


def _write(pool: Pool, looks: dict[str, Look]) -> None:
    with pool.write() as session:
        for image in session.scalars(select(Image).where(Image.digest.in_(list(looks)))):
            image.phash, image.thumbnail = looks[image.digest].phash, looks[image.digest].thumbnail


def _pieces(digests: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (digests[start : start + size] for start in range(0, len(digests), size))
