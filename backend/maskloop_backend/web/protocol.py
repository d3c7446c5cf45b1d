"""The six endpoints that Label Studio 1.23 knows of an ML backend."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy import select
from starlette.responses import JSONResponse, Response

from maskloop_backend.labelstudio.peer import PROJECT_HEADER
from maskloop_backend.results import UNTRAINED
from maskloop_backend.web.bodies import SMALL, parse_object, read_body
from maskloop_backend.web.dashboard.shell import RELEASE
from maskloop_backend.web.errors import WebError
from maskloop_backend.web.hints import Hints
from maskloop_backend.web.metrics import Metrics
from maskloop_backend.web.predict import Predictor
from maskloop_backend.web.threads import Threads
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import current_version, find_project
from maskloop_learner.pool.schema import PredictionVersion, Project
from maskloop_queue.triggers import request_training

logger = logging.getLogger(__name__)

MEGABYTE = 1 << 20
SETUP_LIMIT, WEBHOOK_LIMIT, PREDICT_LIMIT = 4 * MEGABYTE, 64 * MEGABYTE, 128 * MEGABYTE
# Annotations come along with all their RLE, and nothing of it is looked at.
WEBHOOK_DROPS = frozenset({b"annotation", b"annotations", b"task", b"tasks"})
TASK_DROPS = frozenset({b"annotations", b"predictions", b"drafts"})
TASK_DEPTH = 3
ACTION = re.compile(r"[A-Z][A-Z_]{0,63}")


@dataclass(frozen=True)
class Services:
    """What the endpoints stand on."""

    pool: Pool
    predictor: Predictor
    hints: Hints
    metrics: Metrics
    threads: Threads
    """For the short work of all endpoints but /predict."""


def project_id(value: Any) -> int:
    """Label Studio's id of a project out of `"<id>.<created>"`, `"<id>"` or the number. WebError 400 else."""
    text = str(value).split(".", 1)[0] if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"[0-9]{1,10}", text) or not 0 < int(text) < 1 << 31:
        raise WebError(400, "`project` is not an id of Label Studio", value, fix="Send `<id>` or `<id>.<timestamp>`.")
    return int(text)


def read_context(body: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """The regions that Label Studio sends along while an annotator works; None where nobody does."""
    params = body.get("params")
    context = params.get("context") if isinstance(params, dict) else None
    if not isinstance(context, dict):
        return None
    regions = context.get("result")
    return [region for region in regions if isinstance(region, dict)] if isinstance(regions, list) else []


def make_router(services: Services) -> APIRouter:
    """The routes /health /setup /predict /webhook /versions /metrics."""
    router = APIRouter()

    @router.get("/health")
    async def health() -> Response:
        return JSONResponse({"status": "UP", "model_class": "MedCLIPSeg", "version": RELEASE})

    @router.post("/setup")
    async def setup(request: Request) -> Response:
        data = await read_body(request, limit=SETUP_LIMIT)
        ls_id = project_id(parse_object(data).get("project"))
        # The access token that comes along is not kept: `maskloop connect` stores one that works.
        return JSONResponse(
            {"model_version": await services.threads.run(lambda: _served(services.pool, ls_id)) or UNTRAINED}
        )

    @router.post("/predict")
    async def predict(request: Request) -> Response:
        data = await read_body(request, limit=PREDICT_LIMIT)
        body = await _parse(services, data, TASK_DROPS, depth=TASK_DEPTH)
        tasks = body.get("tasks")
        if not isinstance(tasks, list):
            raise WebError(400, "`tasks` is not a list", tasks, fix="Send the tasks as Label Studio does.")
        context = read_context(body)
        reply = await services.predictor.answer(project_id(body.get("project")), tasks, context=context)
        return Response(reply, media_type="application/json")

    @router.post("/webhook")
    async def webhook(request: Request) -> Response:
        data = await read_body(request, limit=WEBHOOK_LIMIT)
        body = await _parse(services, data, WEBHOOK_DROPS, depth=1)
        action, project = body.get("action"), body.get("project")
        if not isinstance(action, str) or not ACTION.fullmatch(action):
            raise WebError(400, "`action` is not the name of an action", action, fix="Send what Label Studio sends.")
        # Without its payload a webhook names the project only in the header that `maskloop connect` gave it.
        named = project.get("id") if isinstance(project, dict) else request.headers.get(PROJECT_HEADER)
        ls_id = project_id(named) if named is not None else None
        if action == "START_TRAINING":
            return await _start_training(services, ls_id)
        services.hints.add(ls_id)
        return JSONResponse({"status": "ok"})

    @router.get("/versions")
    async def versions(project: str | None = None) -> Response:
        ls_id = project_id(project) if project is not None else None
        return JSONResponse({"versions": await services.threads.run(lambda: _versions(services.pool, ls_id))})

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(await services.threads.run(services.metrics.text), media_type=CONTENT_TYPE_LATEST)

    return router


async def _parse(services: Services, data: bytearray, drop: frozenset[bytes], *, depth: int) -> dict[str, Any]:
    if len(data) <= SMALL:
        return parse_object(data)
    return await services.threads.run(lambda: parse_object(data, drop=drop, depth=depth))


async def _start_training(services: Services, ls_id: int | None) -> Response:
    def request() -> int | None:
        with services.pool.read() as session:
            project = find_project(session, ls_id) if ls_id is not None else None
        return request_training(services.pool, project.id, cause="button") if project is not None else None

    number = await services.threads.run(request)
    if number is None:
        raise WebError(404, "the project is not connected", ls_id, fix="Run `maskloop connect` for it first.")
    services.hints.add(ls_id)
    logger.info("webhook: training of project %s requested (request %d)", ls_id, number)
    return JSONResponse({"status": "ok", "job": f"request-{number}"})


def _served(pool: Pool, ls_id: int) -> str | None:
    with pool.read() as session:
        project = find_project(session, ls_id)
        return current_version(session, project.id) if project is not None else None


def _versions(pool: Pool, ls_id: int | None) -> list[str]:
    statement = select(PredictionVersion.id).order_by(PredictionVersion.created_at.desc(), PredictionVersion.id)
    if ls_id is not None:
        statement = statement.join(Project, Project.id == PredictionVersion.project_id).where(Project.ls_id == ls_id)
    with pool.read() as session:
        return list(session.scalars(statement))
