"""Pictures of images, masks and uncertainty, which browsers may keep: their addresses say what is in them."""

import re
from collections.abc import Callable, Sequence

from fastapi import APIRouter, Request
from starlette.responses import Response

from maskloop_backend.web.dashboard.cards import LARGE, SMALL, mark
from maskloop_backend.web.dashboard.colours import label_colours, rgb
from maskloop_backend.web.dashboard.desk import Desk
from maskloop_backend.web.dashboard.drawing import heat, outline, shrink
from maskloop_backend.web.dashboard.thumbs import Thumbs
from maskloop_backend.web.errors import WebError
from maskloop_learner.pool.images import ImageError
from maskloop_learner.pool.maps import MapError, decode_map
from maskloop_learner.pool.masks import MaskError, decode_mask
from maskloop_learner.pool.queries import scores_of
from maskloop_learner.pool.schema import Image, Label, Prediction, PredictionVersion, Project, Score, Task
from maskloop_learner.pool.store import BlobError, StoreDown

SIDES = {SMALL, LARGE}
DIGEST = re.compile(r"[0-9a-f]{64}")
KEEP = "private, max-age=31536000, immutable"
GONE = "Load the page again."
MEGABYTE = 1 << 20


def make_router(desk: Desk) -> APIRouter:
    """The routes /pictures/ (images) and /layers/ (what lies on them)."""
    router = APIRouter()
    thumbs = Thumbs(desk.settings.home / "cache" / "thumbnails", desk.settings.thumbnail_mb * MEGABYTE)

    async def send(request: Request, tag: str, kind: str, make: Callable[[], bytes]) -> Response:
        headers = {"ETag": f'"{tag}"', "Cache-Control": KEEP, "X-Content-Type-Options": "nosniff"}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(await desk.pictures.run(lambda: explain(make)), media_type=kind, headers=headers)

    @router.get("/pictures/{digest}-{side}.webp")
    async def picture(request: Request, digest: str, side: str) -> Response:
        pixels = read_side(side)
        if not DIGEST.fullmatch(digest):
            raise WebError(404, "there is no such image", digest, fix=GONE)
        name = f"{digest}-{pixels}.webp"

        def make() -> bytes:
            return thumbs.get(name, lambda: shrink(desk.pool.store.get("images", digest), pixels))

        return await send(request, name, "image/webp", make)

    @router.get("/layers/{kind}/{number}-{mark}-{side}.png")
    async def layer(request: Request, kind: str, number: str, mark: str, side: str) -> Response:
        pixels, row = read_side(side), read_number(number)
        if kind not in LAYERS:
            raise WebError(404, "there is no such picture", kind, fix=GONE)
        tag = f"{kind}-{row}-{mark[:64]}-{pixels}"
        return await send(request, tag, "image/png", lambda: LAYERS[kind](desk, row, mark, pixels))

    return router


def explain(make: Callable[[], bytes]) -> bytes:
    """Draw. Raises WebError where what is to be drawn is lost or cannot be read."""
    try:
        return make()
    except (BlobError, ImageError, MaskError, MapError) as error:
        fix = "`maskloop doctor` says what is lost, and what to do."
        raise WebError(404, "the picture cannot be drawn", str(error), fix=fix) from error
    except StoreDown as error:
        raise WebError(503, "the store does not answer", str(error), fix="Try again in a moment.") from error


def draw_outline(desk: Desk, prediction_id: int, wanted: str, side: int) -> bytes:
    """The borders of a prediction's masks, each in its label's colour."""
    project, _, scores = read_prediction(desk, prediction_id)
    check_mark(wanted, [score.mask_digest for score in scores])
    return draw_masks(desk, project, {score.label: score.mask_digest for score in scores}, side)


def draw_label(desk: Desk, label_id: int, wanted: str, side: int) -> bytes:
    """The borders of the masks that a person drew."""
    with desk.pool.read() as session:
        label = session.get(Label, label_id)
        task = session.get(Task, label.task_id) if label is not None else None
        project = session.get(Project, task.project_id) if task is not None else None
    if label is None or project is None or not label.masks:
        raise WebError(404, "there is no such label", label_id, fix=GONE)
    check_mark(wanted, list(label.masks.values()))
    return draw_masks(desk, project, label.masks, side)


def draw_heat(desk: Desk, prediction_id: int, wanted: str, side: int) -> bytes:
    """Where a prediction is unsure."""
    _, image, scores = read_prediction(desk, prediction_id)
    digests = [score.map_digest for score in scores if score.map_digest is not None]
    check_mark(wanted, digests)
    maps = [decode_map(desk.pool.store.get("maps", digest), name=f"map {digest[:12]}") for digest in digests]
    return heat(maps, width=image.width, height=image.height, side=side)


def draw_masks(desk: Desk, project: Project, masks: dict[str, str], side: int) -> bytes:
    """Borders of masks by label; one of a label that the config has no longer is white."""
    colours = label_colours(project)
    drawn = [
        (decode_mask(desk.pool.store.get("masks", digest), name=f"mask {digest[:12]}"), colours.get(label, "#ffffff"))
        for label, digest in masks.items()
    ]
    return outline([(mask, rgb(colour)) for mask, colour in drawn], side=side)


LAYERS = {"outline": draw_outline, "heat": draw_heat, "label": draw_label}


def read_prediction(desk: Desk, prediction_id: int) -> tuple[Project, Image, list[Score]]:
    """A prediction's project, image and scores. Raises WebError 404 when it is gone."""
    with desk.pool.read() as session:
        prediction = session.get(Prediction, prediction_id)
        version = session.get(PredictionVersion, prediction.version_id) if prediction is not None else None
        scores = scores_of(session, [prediction_id]).get(prediction_id, [])
        if prediction is None or version is None or not scores:
            raise WebError(404, "there is no such prediction", prediction_id, fix=GONE)
        return session.get_one(Project, version.project_id), session.get_one(Image, prediction.image_digest), scores


def check_mark(wanted: str, digests: Sequence[str]) -> None:
    """Raise WebError 404 where an address is of what was there before: it would be kept under a wrong name."""
    if not digests or wanted != mark(digests):
        raise WebError(404, "this picture was replaced", wanted, fix=GONE)


def read_side(text: str) -> int:
    """A size that pictures are made in."""
    if text not in {str(side) for side in SIDES}:
        raise WebError(404, "pictures have no such size", text, fix=f"Ask for one of {sorted(SIDES)}.")
    return int(text)


def read_number(text: str) -> int:
    """The id of a row."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise WebError(404, "there is no such picture", text, fix=GONE)
    return int(text)
