"""What the pool and the disk say of an installation, as Prometheus takes it. Times are Unix seconds."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from maskloop_backend.backup.content import LAST_BACKUP
from maskloop_backend.sync.alarms import ALARM
from maskloop_backend.sync.work import waiting_tasks
from maskloop_learner.disk import measure_room
from maskloop_learner.pool.database import release
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Cursor, Image, Label, Prediction, Project, Round, Task
from maskloop_learner.settings import Settings

Gauge = GaugeMetricFamily


def pool_figures(pool: Pool, settings: Settings) -> Iterator[Metric]:
    """Look at the pool, in one reading transaction, and at the disk."""
    with pool.read() as session:
        projects = session.scalars(select(Project).order_by(Project.id)).all()
        names = {project.id: str(project.ls_id) for project in projects}
        yield from _tasks_and_labels(session, names)
        yield from _rounds(session, names)
        yield from _serving(session, names)
        yield from _sync(projects)
        yield from _upkeep(session)
    yield from _disk(pool, settings)


def _tasks_and_labels(session: Session, names: dict[int, str]) -> Iterator[Metric]:
    tasks = Gauge("maskloop_tasks", "Tasks by state.", labels=["project", "state"])
    by_state = select(Task.project_id, Task.state, func.count()).where(Task.deleted_at.is_(None))
    for project, state, count in session.execute(by_state.group_by(Task.project_id, Task.state)):
        tasks.add_metric([names[project], state], count)
    yield tasks
    usable = Gauge("maskloop_labels", "Current labels that can be learnt from.", labels=["project"])
    others = Gauge("maskloop_labels_unusable", "Current labels that cannot be learnt from.", labels=["project", "why"])
    why = case((Label.cancelled, "skipped"), (Label.error.is_not(None), "broken"), else_="")
    current = select(Task.project_id, why, func.count()).join(Label, Label.task_id == Task.id)
    current = current.where(Label.current, ~Label.deleted)
    for project, reason, count in session.execute(current.group_by(Task.project_id, why)):
        if reason:
            others.add_metric([names[project], reason], count)
        else:
            usable.add_metric([names[project]], count)
    yield from (usable, others)


def _rounds(session: Session, names: dict[int, str]) -> Iterator[Metric]:
    rounds = Gauge("maskloop_rounds", "Training rounds by state.", labels=["project", "state"])
    ended = Gauge("maskloop_round_ended_timestamp_seconds", "Last end by state.", labels=["project", "state"])
    failures = Gauge("maskloop_round_failures", "Failed starts of the open round.", labels=["project"])
    statement = select(Round.project_id, Round.state, func.count(), func.max(Round.ended_at), func.sum(Round.failures))
    for project, state, count, last, failed in session.execute(statement.group_by(Round.project_id, Round.state)):
        rounds.add_metric([names[project], state], count)
        if last is not None:
            ended.add_metric([names[project], state], last.timestamp())
        if state in ("queued", "running"):
            failures.add_metric([names[project]], failed)
    yield from (rounds, ended, failures)


def _serving(session: Session, names: dict[int, str]) -> Iterator[Metric]:
    fences = Gauge("maskloop_champion_fence", "Grows with every change of the served model.", labels=["project"])
    predictions = Gauge("maskloop_predictions", "Predictions of the current version.", labels=["project", "version"])
    missing = Gauge("maskloop_predictions_missing", "Unlabelled images that wait for theirs.", labels=["project"])
    served = select(Champion.project_id, Champion.fence, Champion.version_id, func.count(Prediction.id))
    served = served.outerjoin(Prediction, Prediction.version_id == Champion.version_id)
    served = served.group_by(Champion.project_id, Champion.fence, Champion.version_id)
    for project, fence, version, count in session.execute(served):
        fences.add_metric([names[project]], fence)
        predictions.add_metric([names[project], version], count)
        missing.add_metric([names[project]], waiting_tasks(session, project, version))
    yield from (fences, predictions, missing)


def _sync(projects: Sequence[Project]) -> Iterator[Metric]:
    looked = Gauge("maskloop_sync_timestamp_seconds", "When sync last went through.", labels=["project"])
    failing = Gauge("maskloop_sync_failing", "1 when sync cannot go through.", labels=["project"])
    for project in projects:
        if project.looked_at is not None:
            looked.add_metric([str(project.ls_id)], project.looked_at.timestamp())
        failing.add_metric([str(project.ls_id)], int(project.sync_error is not None))
    yield from (looked, failing)


def _upkeep(session: Session) -> Iterator[Metric]:
    count, size = session.execute(select(func.count(Image.digest), func.coalesce(func.sum(Image.size), 0))).one()
    yield Gauge("maskloop_images", "Images in the pool.", value=count)
    yield Gauge("maskloop_image_bytes", "Bytes of these images.", value=size)
    backup = Gauge("maskloop_backup_timestamp_seconds", "When the last backup was made.")
    if (last := session.get(Cursor, LAST_BACKUP)) is not None:
        backup.add_metric([], last.position)
    yield backup
    alarms = Gauge("maskloop_alarm", "1 for each trouble that stands.", labels=["kind", "subject"])
    for name in session.scalars(select(Cursor.name).where(Cursor.name.startswith(ALARM))):
        _, kind, subject = name.split(":", 2)
        alarms.add_metric([kind, subject], 1)
    yield alarms
    info = Gauge("maskloop_info", "The release that runs.", labels=["release"])
    info.add_metric([release()], 1)
    yield info


def _disk(pool: Pool, settings: Settings) -> Iterator[Metric]:
    room = measure_room(settings)
    yield Gauge("maskloop_disk_free_bytes", "Room on the fullest disk that is written to.", value=room.free * 1e6)
    yield Gauge("maskloop_disk_low", "1 when trainings wait for room.", value=int(room.is_low))
    database = Gauge("maskloop_database_bytes", "Size of the pool's database; of SQLite with its log.")
    if pool.engine.dialect.name == "postgresql":
        with pool.read() as session:
            database.add_metric([], session.scalars(select(func.pg_database_size(func.current_database()))).one())
    elif pool.engine.dialect.name == "sqlite":
        path = str(pool.engine.url.database)
        files = [Path(path), Path(f"{path}-wal")]
        database.add_metric([], sum(file.stat().st_size for file in files if file.exists()))
    yield database
