"""The page of images: which come next and why, with their masks and where the model is unsure."""

from fastapi import APIRouter, Request
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import JSONResponse, Response

from maskloop_backend.web.dashboard.boards import SCORES, Boards, Unsortable
from maskloop_backend.web.dashboard.cards import Card, make_cards
from maskloop_backend.web.dashboard.colours import label_colours
from maskloop_backend.web.dashboard.desk import Desk, Entry
from maskloop_backend.web.dashboard.details import find_details
from maskloop_backend.web.dashboard.listing import Listing
from maskloop_backend.web.dashboard.wishes import STATES, Cursor, State, Wish
from maskloop_backend.web.errors import WebError
from maskloop_learner.pool.batches import find_open
from maskloop_learner.pool.queries import current_version
from maskloop_learner.pool.schema import Batch, Project

ENTRY = Entry("Images", "/images")
NO_PROJECT = "Run `maskloop connect` or `maskloop demo`."


def make_router(desk: Desk) -> APIRouter:
    """The routes /images, /images/more, /images/count, /images/<task> and /api/images."""
    router = APIRouter()
    boards = desk.boards

    def look(request: Request) -> tuple[list[Project], Project | None]:
        projects = desk.projects()
        return projects, desk.pick(projects, request.query_params.get("project"))

    def need(request: Request) -> Project:
        project = look(request)[1]
        if project is None:
            raise WebError(404, "no project is connected yet", fix=NO_PROJECT)
        return project

    def show(request: Request, template: str) -> Response:
        projects, project = look(request)
        if project is None:
            return desk.show(request, "images_none.html", entry=ENTRY, projects=projects)
        with desk.pool.read() as session:
            listing = open_listing(session, boards, project)
            wish = Wish.read(dict(request.query_params), state=first_state(listing))
            cards, following, trouble = read_cards(session, listing, wish)
            batches = session.scalars(
                select(Batch).where(Batch.project_id == project.id).order_by(Batch.number.desc()).limit(50)
            ).all()
        return desk.show(
            request,
            template,
            entry=ENTRY,
            projects=projects,
            project=project,
            version=listing.version,
            wish=wish,
            cards=cards,
            following=following.text() if following else None,
            trouble=trouble,
            batches=batches,
            colours=label_colours(project),
            states=STATES,
            scores=SCORES,
        )

    @router.get("/images")
    async def images(request: Request) -> Response:
        return await desk.threads.run(lambda: show(request, "images.html"))

    @router.get("/images/more")
    async def more(request: Request) -> Response:
        return await desk.threads.run(lambda: show(request, "images_more.html"))

    @router.get("/images/count")
    async def count(request: Request) -> Response:
        def make() -> Response:
            project = need(request)
            with desk.pool.read() as session:
                listing = open_listing(session, boards, project)
                wish = Wish.read(dict(request.query_params), state=first_state(listing))
                number = listing.count(wish)
            return desk.show(
                request, "images_count.html", entry=None, projects=[], project=project, count=number, wish=wish
            )

        return await desk.threads.run(make)

    @router.get("/images/{task}")
    async def details(request: Request, task: str) -> Response:
        def make() -> Response:
            projects, project = look(request)
            if project is None or not (task.isascii() and task.isdigit() and len(task) <= 18):
                raise WebError(404, "there is no such image", task, fix="Go back to the list of images.")
            with desk.pool.read() as session:
                version = current_version(session, project.id)
                found = find_details(session, project, version, int(task))
            template = "image_side.html" if "hx-request" in request.headers else "image.html"
            return desk.show(
                request,
                template,
                entry=ENTRY,
                projects=projects,
                project=project,
                version=version,
                found=found,
                colours=label_colours(project),
            )

        return await desk.threads.run(make)

    @router.get("/api/images")
    async def as_json(request: Request) -> Response:
        def make() -> Response:
            project = need(request)
            with desk.pool.read() as session:
                listing = open_listing(session, boards, project)
                wish = Wish.read(dict(request.query_params), state=first_state(listing))
                cards, following, trouble = read_cards(session, listing, wish)
            if trouble is not None:
                raise WebError(409, trouble, wish.by, fix="Order by another score.")
            return JSONResponse(
                {
                    "project": project.ls_id,
                    "version": listing.version,
                    "by": wish.by,
                    "state": wish.state,
                    "items": [card.as_json() for card in cards],
                    "next": following.text() if following else None,
                },
                headers={"Cache-Control": "no-store"},
            )

        return await desk.threads.run(make)

    return router


def open_listing(session: Session, boards: Boards, project: Project) -> Listing:
    """The project's images under the version that should be served."""
    version = current_version(session, project.id)
    return Listing(session, project, version, boards.of(version) if version is not None else None)


def first_state(listing: Listing) -> State:
    """What is shown where nothing is asked for: without a model nothing is ranked, but a batch has its order."""
    has_order = listing.version is not None or find_open(listing.session, listing.project.id) is not None
    return "queue" if has_order else "all"


def read_cards(session: Session, listing: Listing, wish: Wish) -> tuple[list[Card], Cursor | None, str | None]:
    """The cards of a page, where the next begins, and why there can be none."""
    try:
        rows, following = listing.page(wish)
    except Unsortable as error:
        return [], None, str(error)
    return make_cards(session, listing.project, listing.version, rows, wish), following, None
