"""What the pages of the dashboard stand on, and how a page of the shell is made."""

import logging
import threading
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlencode

import redis
from fastapi import APIRouter, Request
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from maskloop_backend.web.dashboard.boards import KEPT, Boards
from maskloop_backend.web.dashboard.shell import page
from maskloop_backend.web.errors import WebError
from maskloop_backend.web.limits import Guesses
from maskloop_backend.web.sessions import Who
from maskloop_backend.web.threads import Threads
from maskloop_backend.web.users import Users
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Project
from maskloop_learner.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A page's place in the navigation."""

    name: str
    path: str
    of_project: bool = True
    """Whether it shows one project, which its address then names."""


class Page(Protocol):
    """A module of `dashboard` that is a page."""

    ENTRY: Entry

    def make_router(self, desk: "Desk") -> APIRouter:
        """The routes of the page."""


@dataclass
class Desk:
    """What pages are made of. `threads` is for reads of the pool, `pictures` for work on pixels."""

    pool: Pool
    settings: Settings
    users: Users
    guesses: Guesses
    entries: tuple[Entry, ...]
    threads: Threads
    pictures: Threads
    connection: redis.Redis
    """To the queue; Redis may be down."""
    choosing: Threads = field(default_factory=lambda: Threads(1, "choosing"))
    """For choosing batches, one at a time: it takes seconds, and hundreds of megabytes, of a large pool."""
    boards: Boards = field(default_factory=Boards)
    stopping: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Read the scores of what is served, beside the requests: the first order by one of them need not wait."""
        threading.Thread(target=self._prepare, name="boards", daemon=True).start()

    def close(self) -> None:
        """Take no more work; does not wait."""
        self.stopping.set()
        self.threads.close()
        self.pictures.close()
        self.choosing.close()

    def _prepare(self) -> None:
        try:
            with self.pool.read() as session:
                versions = list(session.scalars(select(Champion.version_id)))
            for version in versions[:KEPT]:
                self.boards.prepare(self.pool, version, self.stopping)
        except SQLAlchemyError as error:
            logger.info("the scores are read when they are asked for: %s", error)

    def projects(self) -> list[Project]:
        """All projects, by their number in Label Studio. Blocks."""
        with self.pool.read() as session:
            return list(session.scalars(select(Project).order_by(Project.ls_id, Project.id)))

    def pick(self, projects: list[Project], wanted: str | None) -> Project | None:
        """The project that an address names by its number in Label Studio, the first where it names none.

        None where there are no projects. Raises WebError 404 for one that there is not.
        """
        if wanted is None or wanted == "":
            return projects[0] if projects else None
        for project in projects:
            if str(project.ls_id) == wanted:
                return project
        raise WebError(404, "there is no such project", wanted, fix="Choose one on the page of projects.")

    def show(
        self,
        request: Request,
        template: str,
        *,
        entry: Entry | None,
        projects: list[Project],
        project: Project | None = None,
        status: int = 200,
        **context: Any,
    ) -> Response:
        """A page in the shell: navigation, who is logged in, and the template's own `context`."""
        who = who_asks(request)
        links = [
            {"name": each.name, "href": self._address(each, project), "current": each is entry} for each in self.entries
        ]
        return page(
            template, status=status, who=who, links=links, entry=entry, projects=projects, project=project, **context
        )

    def _address(self, entry: Entry, project: Project | None) -> str:
        if not entry.of_project or project is None:
            return entry.path
        return f"{entry.path}?{urlencode({'project': project.ls_id})}"


def who_asks(request: Request) -> Who:
    """Who a request is from. The guard has let it in, so there is somebody."""
    who: Who = request.state.who
    return who
