"""What the queue should hold: predictions that lack and rounds that are due; the difference is enqueued."""

import logging
from collections.abc import Callable
from itertools import zip_longest

import redis
from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from maskloop_learner.model.backbones import BACKBONES
from maskloop_learner.pool.embedding import unembedded
from maskloop_learner.pool.groups import follow_groups, grouping_digest
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.prompting import follow_rules, rules_digest
from maskloop_learner.pool.queries import (
    Question,
    answers,
    current_version,
    drawn,
    predictions_for,
    servable,
    unranked,
    unscored,
)
from maskloop_learner.pool.schema import (
    Champion,
    Model,
    Prediction,
    PredictionVersion,
    Project,
    Round,
    Task,
    utcnow,
)
from maskloop_learner.predict.version import prediction_version, ranks_apart
from maskloop_learner.settings import Settings
from maskloop_learner.train.fallback import version_fault
from maskloop_learner.train.registry import ensure_version, refresh_version, version_config
from maskloop_learner.train.shadow import fresh_labels, shadow_of
from maskloop_queue.queues import enqueue_embedding, enqueue_rank, enqueue_round, enqueue_score, live_round_jobs
from maskloop_queue.timing import has_come
from maskloop_queue.triggers import LONGEST_PAUSE, start_due_round

log = logging.getLogger(__name__)

TASKS_AT_ONCE = 500
JOBS_AHEAD = 64
"""Predictions that wait in the queue at most: enough for several workers between two looks."""


def follow_settings(pool: Pool, project_id: int, settings: Settings) -> str | None:
    """The prediction version that should be served now, made anew when prompts or settings changed."""
    with pool.read() as session:
        champion = session.get(Champion, project_id)
        if champion is None:
            return None
        project, model = session.get_one(Project, project_id), session.get_one(Model, champion.model_id)
        if prediction_version(version_config(project, model, settings)) == champion.version_id:
            return champion.version_id
    with pool.write() as session:
        return refresh_version(session, session.get_one(Project, project_id), settings)


def follow_prompts(pool: Pool, project_id: int) -> None:
    """Work out what is asked of every image anew when the project's labels, templates or sheets changed."""
    with pool.read() as session:
        project = session.get_one(Project, project_id)
        if rules_digest(project) == project.prompted_with:
            return
    changed = _follow(pool, project_id, follow_rules)
    log.info("project %d: %d images are asked another thing than before", project_id, changed)


def follow_grouping(pool: Pool, project_id: int) -> None:
    """Work out which group every task belongs to, and which are blind, when the rule or the share changed."""
    with pool.read() as session:
        project = session.get_one(Project, project_id)
        if grouping_digest(project) == project.grouped_with:
            return
    if changed := _follow(pool, project_id, follow_groups):
        log.info("project %d: %d images belong to another group than before", project_id, changed)


def _follow(pool: Pool, project_id: int, follow: Callable[..., tuple[int, int | None]]) -> int:
    """Have all tasks of the project follow a changed rule; return how many did."""
    changed = 0
    last: int | None = 0
    while last is not None:
        # In pieces: no other writer should wait for ten thousand tasks.
        with pool.write() as session:
            project = session.get_one(Project, project_id)
            more, last = follow(session, project, after=last, limit=TASKS_AT_ONCE)
            changed += more
    return changed


def enqueue_missing(pool: Pool, conn: redis.Redis, project_id: int, *, limit: int | None = None) -> int:
    """Enqueue predictions that the current version lacks; return how many images lack one (at most `limit`;
    None: JOBS_AHEAD).

    Where the version ranks with fewer samples than it draws masks with, ranks and masks take turns: the whole order
    is known long before the last mask, and the masks are drawn in that order.
    """
    limit = JOBS_AHEAD if limit is None else limit
    with pool.read() as session:
        version = current_version(session, project_id)
        if version is None or version_fault(session, version) is not None:
            return 0
        missing = unscored(session, project_id, version, limit=limit)
        ahead = ranks_apart(session.get_one(PredictionVersion, version).config)
        unplaced = unranked(session, project_id, version, limit=limit) if ahead else []
    for undrawn, first in zip_longest(missing, unplaced):
        if first is not None:
            enqueue_rank(conn, version, *first)
        if undrawn is not None:
            enqueue_score(conn, version, *undrawn)
    return len(missing)


def enqueue_shadow(pool: Pool, conn: redis.Redis, project_id: int, settings: Settings) -> int:
    """Enqueue what a model in shadow has not predicted yet of the images labelled since; return how many these are.

    They are few, nobody waits for them, and they are never pushed to Label Studio.
    """
    with pool.read() as session:
        shadow = shadow_of(session, project_id)
        if shadow is None:
            return 0
        project, (model, since) = session.get_one(Project, project_id), shadow
        version = prediction_version(version_config(project, model, settings))
        tasks = [task for _, task in fresh_labels(session, project_id, since)]
        questions = [Question(task.image_digest, task.prompt_digest) for task in tasks if task.image_digest]
        there = predictions_for(session, version, questions)
        missing = [question for question in questions if question not in there][:JOBS_AHEAD]
        known = session.get(PredictionVersion, version) is not None
    if missing and not known:
        with pool.write() as session:
            ensure_version(session, session.get_one(Project, project_id), session.get_one(Model, model.id), settings)
    for question in missing:
        enqueue_score(conn, version, *question)
    return len(missing)


def enqueue_unembedded(pool: Pool, conn: redis.Redis, project_id: int, settings: Settings) -> int:
    """Enqueue the embedding of images that are in no space of the project's backbone; return how many lack it (at
    most JOBS_AHEAD).

    While a model predicts the project's images it embeds them too, so this is for projects that have none, and for
    images that were predicted before there were embeddings. A backbone whose weights are not there embeds nothing.
    """
    with pool.read() as session:
        champion = session.get(Champion, project_id)
        backbone = session.get_one(Model, champion.model_id).backbone if champion else settings.backbone
        spec = BACKBONES.get(backbone)
        if spec is None or (spec.source and not (settings.bases_folder / backbone / "base.json").is_file()):
            return 0
        missing = unembedded(session, project_id, backbone, limit=JOBS_AHEAD)
    for digest in missing:
        enqueue_embedding(conn, project_id, digest, backbone)
    return len(missing)


def waiting_tasks(session: Session, project_id: int, version: str) -> int:
    """How many unlabelled tasks with a usable image have no prediction of the version yet."""
    # In this order: a database tries conditions as they stand, and most tasks have a prediction.
    missing = ~exists().where(answers(Prediction, version)), ~drawn()
    statement = select(func.count(Task.id)).where(*servable(project_id), *missing)
    return session.scalar(statement) or 0


def new_images(session: Session, project_id: int) -> int:
    """How many tasks wait for their image to be fetched."""
    statement = select(func.count(Task.id)).where(
        Task.project_id == project_id, Task.deleted_at.is_(None), Task.state == "new"
    )
    return session.scalar(statement) or 0


def enqueue_rounds(pool: Pool, conn: redis.Redis, project_id: int, settings: Settings) -> bool:
    """Open a round that is due, and give every open round that lost its job a new one; whether one is open."""
    opened = start_due_round(pool, project_id, settings)
    if opened is not None:
        log.info("project %d: round %d is opened", project_id, opened)
    # Jobs before rounds: a round ends in the pool before its job goes away.
    alive = live_round_jobs(conn)
    with pool.read() as session:
        statement = select(Round).where(Round.project_id == project_id, Round.state.in_(("queued", "running")))
        rounds = session.scalars(statement).all()
    for row in rounds:
        # A clock that was set back must not keep a round waiting for longer than it was to wait.
        due = row.retry_at is None or has_come(row.retry_at, now=utcnow(), longest=LONGEST_PAUSE)
        if due and row.id not in alive and enqueue_round(conn, row.id, row.attempts + 1):
            log.info("project %d: round %d is enqueued (attempt %d)", project_id, row.id, row.attempts + 1)
    return bool(rounds)
