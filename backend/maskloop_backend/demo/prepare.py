"""Fills the demo's Label Studio and brings its project to the point where a person can begin. Safe to repeat."""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import func, select

from maskloop_backend.connecting import connect_project
from maskloop_backend.demo.folder import DemoContent
from maskloop_backend.demo.host import Account, label_studio_url
from maskloop_backend.demo.slices import DemoError
from maskloop_backend.labelstudio.client import LabelStudio
from maskloop_backend.labelstudio.config import read_interface
from maskloop_backend.labelstudio.template import write_config
from maskloop_backend.labelstudio.views import UNLABELLED
from maskloop_backend.masks.regions import to_regions
from maskloop_backend.sync.work import new_images, waiting_tasks
from maskloop_learner.pool.masks import decode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import current_version, usable_labels
from maskloop_learner.pool.schema import Project, Push, Round, Task
from maskloop_learner.settings import Settings
from maskloop_queue.triggers import active_round, request_training

log = logging.getLogger(__name__)

START_PATIENCE = 300.0
"""Seconds: Label Studio migrates its database on its first start."""
READY_PATIENCE = 1800.0
TAB = "Most uncertain first"
HIDDEN = [
    f"tasks:{column}"
    for column in (
        "inner_id",
        "annotators",
        "annotations_ids",
        "annotations_results",
        "avg_lead_time",
        "cancelled_annotations",
        "completed_at",
        "created_at",
        "draft_exists",
        "file_upload",
        "ground_truth",
        "predictions_results",
        "storage_filename",
        "total_predictions",
        "updated_at",
        "updated_by",
    )
]
"""Columns that would push the image and its score off the screen."""


@dataclass(frozen=True)
class Ready:
    """What the person is told."""

    address: str
    ls_id: int
    tasks: int
    predicted: int
    seconds: float


def prepare(settings: Settings, content: DemoContent, account: Account, *, stopped: Callable[[], bool]) -> Ready:
    """Wait for the processes, make the project, import, connect, train once, wait for the masks.

    Raises DemoError when something does not come up; LabelStudioError when Label Studio refuses.
    """
    started = time.monotonic()
    pool = Pool.open(settings)
    try:
        url = label_studio_url(settings)
        _wait_for(f"{url}/health", "Label Studio", stopped)
        _wait_for(f"{settings.resolved_public_url}/health", "the web process", stopped)
        with LabelStudio(url, account.token) as client:
            ls_id = _ensure_project(client, settings.home / "demo", content)
            _import_missing(client, ls_id, content)
            # Only at first: later the prompts may be a person's.
            prompts = {} if _is_known(pool, url, ls_id) else content.prompts
            connection = connect_project(pool, settings, url=url, token=account.token, ls_id=ls_id, prompts=prompts)
            for finding in connection.findings:
                if finding.level == "problem":
                    raise DemoError(f"the demo's project cannot be connected: {finding.what} {finding.fix}")
            client.ensure_view(ls_id, TAB, ordering="tasks:predictions_score", where=[UNLABELLED], hidden=HIDDEN)
        with pool.read() as session:
            project_id = session.scalars(select(Project.id).where(Project.ls_url == url, Project.ls_id == ls_id)).one()
        predicted = _await_masks(pool, project_id, content, stopped)
        address = f"{url}/projects/{ls_id}/data"
        return Ready(address, ls_id, len(content.names), predicted, time.monotonic() - started)
    finally:
        pool.close()


def _is_known(pool: Pool, url: str, ls_id: int) -> bool:
    with pool.read() as session:
        return session.scalar(select(Project.id).where(Project.ls_url == url, Project.ls_id == ls_id)) is not None


def _wait_for(url: str, what: str, stopped: Callable[[], bool]) -> None:
    end = time.monotonic() + START_PATIENCE
    while time.monotonic() < end and not stopped():
        try:
            if httpx.get(url, timeout=2.0).status_code == 200:
                return
        except httpx.HTTPError as error:
            log.debug("%s is not up yet: %s", what, error)
        time.sleep(0.3)
    raise DemoError(f"{what} did not come up at {url}; its lines in the log say why")


def _ensure_project(client: LabelStudio, folder: Path, content: DemoContent) -> int:
    path = folder / "projects.json"
    known: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    if content.key in known and known[content.key] in client.projects():
        return known[content.key]
    made = client.create_project(content.title, _config(content))
    path.write_text(json.dumps(known | {content.key: made.id}))
    return made.id


def _config(content: DemoContent) -> str:
    return write_config(list(content.prompts), mode="brush", prompt=True)


def _import_missing(client: LabelStudio, ls_id: int, content: DemoContent) -> None:
    there = {row.data.get("name") for row in client.changed_tasks(ls_id, None).tasks}
    missing = [name for name in content.names if name not in there]
    if not missing:
        return
    log.info("demo: importing %d images", len(missing))
    addresses = client.upload_files(ls_id, [(name, (content.images / name).read_bytes()) for name in missing])
    tasks = [_task(content, name, address) for name, address in zip(missing, addresses, strict=True)]
    client.import_tasks(ls_id, tasks)


def _task(content: DemoContent, name: str, address: str) -> dict[str, Any]:
    task: dict[str, Any] = {"data": {"image": address, "name": name}}
    if name in content.seeds:
        masks = {label: decode_mask(files[name].read_bytes()) for label, files in content.masks.items()}
        regions = to_regions(masks, controls=read_interface(_config(content)).controls, region_prefix=name)
        task["annotations"] = [{"result": [{**region, "origin": "manual"} for region in regions]}]
    return task


def _await_masks(pool: Pool, project_id: int, content: DemoContent, stopped: Callable[[], bool]) -> int:
    end = time.monotonic() + READY_PATIENCE
    asked = False
    while time.monotonic() < end and not stopped():
        with pool.read() as session:
            project = session.get_one(Project, project_id)
            tasks = session.scalar(select(func.count(Task.id)).where(Task.project_id == project_id)) or 0
            taken = tasks >= len(content.names) and not new_images(session, project_id)
            labels = len(usable_labels(session, project_id))
            version = current_version(session, project_id)
            waiting = waiting_tasks(session, project_id, version) if version else 0
            idle = active_round(session, project_id) is None
            failed = session.scalar(
                select(Round.reason).where(Round.project_id == project_id, Round.failures > 0).limit(1)
            )
        if version and project.served_version == version and taken and not waiting:
            with pool.read() as session:
                held = (Push.project_id == project_id, Push.version_id == version, Push.gone_at.is_(None))
                return session.scalar(select(func.count(Push.ls_prediction_id)).where(*held)) or 0
        if not content.seeds and taken:
            return 0
        if failed and version is None:
            raise DemoError(f"the demo's first training failed: {failed}")
        if taken and version is None and idle and labels >= len(content.seeds) and not asked:
            log.info("demo: %d images are in the pool, training on %d labels", tasks, labels)
            request_training(pool, project_id, cause="demo")
            asked = True
        time.sleep(0.5)
    raise DemoError("the demo did not get ready; `maskloop doctor` says what is missing")
