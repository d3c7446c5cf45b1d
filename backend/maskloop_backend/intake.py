"""Takes the image of one task into the pool, or marks the task with the reason why not."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from maskloop_backend.cloud import shown_address
from maskloop_backend.fetch import FetchError, fetch_image
from maskloop_learner.disk import measure_room
from maskloop_learner.pool.groups import choose_blind, set_group
from maskloop_learner.pool.images import ImageError, ImageInfo, decode_image, sniff_format
from maskloop_learner.pool.looks import Look, look_at
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.prompting import set_prompts
from maskloop_learner.pool.pushes import mark_stale
from maskloop_learner.pool.queries import Question
from maskloop_learner.pool.schema import Image, Project, Task, utcnow
from maskloop_learner.settings import Settings

logger = logging.getLogger(__name__)
T = TypeVar("T")

HeadersFor = Callable[[str], dict[str, str]]
"""Label Studio's URL -> headers with its token. Raises FetchError when there is no valid one."""

FIRST_RETRY, LAST_RETRY = 60.0, 3600.0


class IntakeError(RuntimeError):
    """The task's image cannot be had; the task carries the same reason."""


class NoRoom(IntakeError):
    """There is no room for the image now; nothing is wrong with it, and the task stays as it is."""


@dataclass(frozen=True)
class Wanted:
    """A task of Label Studio with an image, under `data_key` of its data, that is not in the pool."""

    project_id: int
    ls_url: str
    ls_id: int
    data_key: str
    data: dict[str, Any]


def take_in(wanted: Wanted, *, pool: Pool, settings: Settings, headers_for: HeadersFor, timeout: float) -> Question:
    """Fetch, check and store a task's image; return it with what is asked of it. Slow: network, decoding, disk.

    Raises IntakeError after marking the task as failed, NoRoom without.
    """
    if (room := measure_room(settings)).is_scarce:
        raise NoRoom(str(room))
    url = wanted.data.get(wanted.data_key)
    # Halves of surrogate pairs, which JSON can carry and no database takes, are replaced.
    shown = url.encode("utf-8", "replace").decode() if isinstance(url, str) else ""
    try:
        if not isinstance(url, str) or not url.strip():
            raise ImageError(
                f"the task's data has no image address under {wanted.data_key!r}; add it or correct the label config"
            )
        content = fetch_image(
            url,
            label_studio_url=wanted.ls_url,
            headers_for_label_studio=lambda: headers_for(wanted.ls_url),
            max_bytes=int(settings.max_image_megabytes * 1e6),
            timeout=timeout,
            task=wanted.ls_id,
            image_hosts=settings.named_image_hosts,
        )
        picture = decode_image(content, max_megapixels=settings.max_image_megapixels, name=shown_address(url))
        look = look_at(picture)
    except (FetchError, ImageError) as error:
        _mark_failed(pool, wanted, shown, error)
        raise IntakeError(str(error)) from error
    try:
        digest = pool.store.put("images", content)
    except OSError as error:
        raise NoRoom(f"the image cannot be stored in {pool.store.url}: {error.strerror or error}") from error
    info = ImageInfo(picture.width, picture.height, sniff_format(content) or "")
    return Question(digest, _mark_ready(pool, wanted, shown, digest, info, len(content), look))


def _mark_ready(
    pool: Pool, wanted: Wanted, url: str, digest: str, info: ImageInfo, size: int, look: Look | None = None
) -> str:
    def change() -> str:
        with pool.write() as session:
            if session.get(Image, digest) is None:
                image = Image(digest=digest, width=info.width, height=info.height, format=info.format, size=size)
                if look is not None:
                    image.phash, image.thumbnail = look.phash, look.thumbnail
                session.add(image)
                session.flush()
            task = session.scalar(_find(wanted)) or _new(session, wanted, url)
            if task.url in ("", url):  # else sync has learnt of another image meanwhile
                if task.state == "failed":
                    mark_stale(session, task, "part")  # its other images were pushed without it
                task.state, task.error, task.retry_at, task.image_digest = "ready", None, None, digest
            session.add(task)
            return task.prompt_digest

    return _again(change)


def _mark_failed(pool: Pool, wanted: Wanted, url: str, error: FetchError | ImageError) -> None:
    def change() -> None:
        with pool.write() as session:
            task = session.scalar(_find(wanted)) or _new(session, wanted, url)
            if task.state == "ready" or task.url not in ("", url):
                return  # sync took it in, or learnt of another image, meanwhile
            task.attempts = (task.attempts or 0) + 1
            wait = min(LAST_RETRY, FIRST_RETRY * 2 ** min(task.attempts - 1, 10))
            again = isinstance(error, FetchError) and error.retry
            task.state, task.error = "failed", str(error)
            task.retry_at = utcnow() + timedelta(seconds=wait) if again else None
            session.add(task)

    _again(change)


def _again(change: Callable[[], T]) -> T:
    try:
        return change()
    except IntegrityError:
        # On PostgreSQL sync may insert the same task or image between our look and our insert: now it is there.
        return change()


def _find(wanted: Wanted) -> Any:
    mine = Task.project_id == wanted.project_id, Task.ls_id == wanted.ls_id, Task.part == wanted.data_key
    return select(Task).where(*mine)


def _new(session: Session, wanted: Wanted, url: str) -> Task:
    task = Task(project_id=wanted.project_id, ls_id=wanted.ls_id, part=wanted.data_key, url=url, data=wanted.data)
    project = session.get_one(Project, wanted.project_id)
    set_prompts(session, project, task)
    set_group(project, task)
    session.add(task)
    choose_blind(session, project, [wanted.ls_id])
    return task
