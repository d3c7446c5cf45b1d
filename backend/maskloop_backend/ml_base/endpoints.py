"""The endpoints of a served subclass: what label-studio-ml 2.x answers, and /versions."""

import logging
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response

from maskloop_backend.labelstudio.peer import PROJECT_HEADER
from maskloop_backend.ml_base.base import LabelStudioMLBase
from maskloop_backend.ml_base.checks import PredictionError, encode_results
from maskloop_backend.ml_base.events import Events
from maskloop_backend.ml_base.figures import Figures
from maskloop_backend.ml_base.fitting import Fits
from maskloop_backend.ml_base.instances import Instances
from maskloop_backend.ml_base.state import State
from maskloop_backend.web.bodies import parse_object, read_body
from maskloop_backend.web.errors import WebError
from maskloop_backend.web.threads import Threads

logger = logging.getLogger(__name__)

LIMIT = 128 << 20


@dataclass(frozen=True)
class Served:
    """What the endpoints stand on. `predicting` are the threads of `predict`, `short` those of all else."""

    model_class: type[LabelStudioMLBase]
    instances: Instances
    state: State
    events: Events
    fits: Fits
    figures: Figures
    predicting: Threads
    short: Threads

    @property
    def name(self) -> str:
        """The class, as errors and /health name it."""
        return self.model_class.__name__

    def failure(self, place: str, error: BaseException) -> WebError:
        """The reply for an error of the subclass, logged with its traceback and kept as `last_error`."""
        logger.error("%s: %s failed", self.name, place, exc_info=error)
        self.events.record_error(place, error)
        what = str(error) if isinstance(error, PredictionError) else f"{type(error).__name__}: {error}"
        return WebError(500, what, place, fix=f"Mend {self.name}; the log has the traceback.")


def project_of(value: Any) -> str:
    """Label Studio's id of a project as text, out of `"<id>.<created>"`, `"<id>"`, the number or None ("")."""
    return "" if value is None else str(value).partition(".")[0]


def make_router(served: Served) -> APIRouter:
    """The routes / /health /setup /predict /webhook /versions /metrics."""
    router = APIRouter()

    @router.get("/")
    @router.get("/health")
    async def health(request: Request) -> Response:
        answer = {"status": "UP", "model_class": served.name}
        if request.scope.get("trusted", True):
            answer |= await served.short.run(served.events.report)
        return JSONResponse(answer)

    @router.post("/setup")
    async def setup(request: Request) -> Response:
        body = parse_object(await read_body(request, limit=LIMIT))
        version = await served.short.run(lambda: _set_up(served, body))
        return JSONResponse({"model_version": version})

    @router.post("/predict")
    async def predict(request: Request) -> Response:
        data = await read_body(request, limit=LIMIT)
        results = await served.predicting.run(lambda: _predict(served, data))
        return Response(b'{"results": [' + b", ".join(results) + b"]}", media_type="application/json")

    @router.post("/webhook")
    async def webhook(request: Request) -> Response:
        data = await read_body(request, limit=LIMIT)
        named = request.headers.get(PROJECT_HEADER)
        status, answer = await served.short.run(lambda: _take_event(served, data, named))
        served.fits.wake()
        return JSONResponse(answer, status)

    @router.get("/versions")
    async def versions() -> Response:
        return JSONResponse({"versions": await served.short.run(served.state.versions)})

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(await served.short.run(served.figures.text), media_type=CONTENT_TYPE_LATEST)

    return router


def _set_up(served: Served, body: dict[str, Any]) -> str | None:
    # Label Studio's access token and host come along; neither is kept: anybody may have sent them.
    project = project_of(body.get("project"))
    try:
        with served.instances.borrow(project, body.get("schema")) as model:
            if body.get("extra_params"):
                model.set_extra_params(body["extra_params"])
            return model.get("model_version")
    except (Exception, SystemExit) as error:
        raise served.failure(f"setup of project {project}", error) from error


def _predict(served: Served, data: bytearray) -> list[bytes]:
    body = parse_object(data)
    tasks, params = body.get("tasks"), body.get("params") or {}
    if not isinstance(tasks, list) or not isinstance(params, dict):
        wrong = ("tasks", tasks) if not isinstance(tasks, list) else ("params", params)
        raise WebError(400, f"`{wrong[0]}` is not what Label Studio sends", wrong[1], fix="Send tasks as a list.")
    project = project_of(body.get("project"))
    context = params.pop("context", None)
    outcome = "failed"
    try:
        with served.figures.seconds.time(), served.instances.borrow(project, body.get("label_config")) as model:
            response = model.predict(tasks, context=context, **params)
            results = encode_results(response, tasks, name=served.name, version=model.get("model_version"))
        outcome = "answered"
    except (Exception, SystemExit) as error:
        raise served.failure(f"predict of project {project}", error) from error
    finally:
        served.figures.tasks.labels(outcome).inc(len(tasks))
    return results


def _take_event(served: Served, data: bytearray, named: str | None) -> tuple[int, dict[str, Any]]:
    """Keep an event for `fit`; returns status and body of the reply."""
    body = parse_object(data)
    event, project = body.pop("action", None), body.get("project")
    if not isinstance(event, str) or not event:
        raise WebError(400, "`action` is not the name of an action", event, fix="Send what Label Studio sends.")
    if not served.model_class.trains_on(event):
        return 200, {"status": "Unknown event"}
    number = project_of(project.get("id") if isinstance(project, dict) else named) or _only_project(served)
    if not number:
        # `send_payload` is off, and nothing says whose event it is.
        logger.warning("%s: %s names no project and is dropped; switch the webhook's payload on", served.name, event)
        return 200, {"status": "no project"}
    config = project.get("label_config") if isinstance(project, dict) else None
    config = config if isinstance(config, str) else served.state.get(number, "label_config")
    if not isinstance(project, dict):
        body["project"] = {"id": int(number) if number.isdigit() else number, "label_config": config}
    taken = served.events.add(number, event, body, label_config=config)
    return 201, {"status": "ok", "job": f"fit-{taken}", "result": None}


def _only_project(served: Served) -> str:
    projects = served.state.projects()
    return projects[0] if len(projects) == 1 else ""
