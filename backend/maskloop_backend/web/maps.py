"""Heat maps for the annotator's view in Label Studio, by a signed address instead of a log-in."""

from fastapi import APIRouter, Request
from sqlalchemy import select
from starlette.responses import Response

from maskloop_backend.heatmaps import HeatMaps
from maskloop_backend.web.dashboard.drawing import beside, neutral
from maskloop_backend.web.errors import WebError
from maskloop_backend.web.threads import Threads
from maskloop_learner.pool.images import ImageError
from maskloop_learner.pool.maps import MapError, decode_map
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import answers, scores_of
from maskloop_learner.pool.schema import Image, Prediction, Task
from maskloop_learner.pool.store import BlobError

SIDE = 768
"""Pixels of the longer side at most: it stands beside the image."""
LONGEST_ID = 18
HEADERS = {
    # Label Studio's page reads the picture with a script of its own, from another origin. The address is the secret,
    # and no cookie counts here, so that nothing is opened to other sites that they could not have.
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
}
KEEP = "private, max-age=86400"
LOOK_AGAIN = "private, no-cache"


def make_maps(pool: Pool, threads: Threads, maps: HeatMaps) -> APIRouter:
    """The route /maps/<task's id in the pool>/<prediction version>.png."""
    router = APIRouter()

    @router.get("/maps/{task}/{version}.png")
    async def heat_map(request: Request, task: str, version: str) -> Response:
        number = int(task) if task.isascii() and task.isdigit() and len(task) <= LONGEST_ID else 0
        if not maps.is_right(number, version, request.query_params):
            fix = "Load the task again: its address is renewed while `maskloop up` runs."
            raise WebError(403, "this address was not signed here, or has expired", f"/maps/{task}", fix=fix)
        data, kept = await threads.run(lambda: draw(pool, number, version))
        headers = HEADERS | {"Cache-Control": KEEP if kept else LOOK_AGAIN}
        return Response(data, media_type="image/png", headers=headers)

    return router


def draw(pool: Pool, task_id: int, version: str) -> tuple[bytes, bool]:
    """The picture, and whether it is the task's map for good. Blocks. Raises WebError 404 for a task that is gone.

    A task that is annotated blind, and one of which no map is kept, gets a picture that says nothing.
    """
    with pool.read() as session:
        task = session.get(Task, task_id)
        image = session.get(Image, task.image_digest) if task is not None and task.image_digest else None
        if task is None or image is None:
            raise WebError(404, "there is no such task", task_id, fix="Load the task again.")
        prediction = session.scalar(
            select(Prediction).join(Task, answers(Prediction, version)).where(Task.id == task_id)
        )
        rows = scores_of(session, [prediction.id] if prediction is not None else [])
    digests = [row.map_digest for found in rows.values() for row in found if row.map_digest is not None]
    if digests and not task.blind:
        try:
            data = pool.store.get("images", image.digest)
            return beside(data, [decode_map(pool.store.get("maps", each)) for each in digests], side=SIDE), True
        except (BlobError, ImageError, MapError) as error:
            raise WebError(404, f"the map cannot be drawn: {error}", task_id, fix="Run `maskloop doctor`.") from error
    return neutral(width=image.width, height=image.height, side=SIDE), False
