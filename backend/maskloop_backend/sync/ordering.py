"""The open batch comes first in Label Studio, in its order: serving scores as they should be, whatever happened."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from maskloop_backend.labelstudio.batches import batches
from maskloop_backend.labelstudio.client import LabelStudio
from maskloop_backend.results import BATCHED
from maskloop_learner.pool.members import batch_scores
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import drawn, in_open_batch
from maskloop_learner.pool.schema import Prediction, Project, Push, Task, utcnow
from maskloop_learner.select.order import LEAST, plain_score

log = logging.getLogger(__name__)

SECONDS = 5.0
"""Of changing scores before labels are looked for again: Label Studio takes 50 to 80 ms for each."""
ROWS_AT_ONCE = 500


@dataclass(frozen=True)
class Due:
    """A prediction in Label Studio whose serving score should be another."""

    ls_prediction_id: int
    score: float
    urgency: tuple[bool, bool, float]
    """Ascending: of the served version first, of unlabelled tasks first, then what stands or should stand in front."""


def keep_order(
    pool: Pool, client: LabelStudio, project: Project, version: str | None, *, beat: Callable[[], None]
) -> bool:
    """Bring serving scores in line with the open batch, for a while; return whether all are as they should be.

    Safe to repeat after a crash at any point: a score is noted once Label Studio has it. What is pushed brings its
    score along, so there is work only when a batch begins or ends, or a version returns.
    """
    with pool.read() as session:
        due = find_due(session, project.id, [project.served_version or BATCHED, *([version] if version else [])])
    end = time.monotonic() + SECONDS
    for done, row in enumerate(due):
        if time.monotonic() > end:
            log.info("project %d: %d of %d serving scores are changed", project.ls_id, done, len(due))
            return False
        beat()
        there = client.set_score(row.ls_prediction_id, row.score)
        with pool.write() as session:
            push = session.get_one(Push, (row.ls_prediction_id, project.id))
            if there:
                push.score = row.score
            else:
                push.gone_at = utcnow()  # and is pushed again
    return True


def find_due(session: Session, project_id: int, versions: Sequence[str]) -> list[Due]:
    """Predictions of these versions, the served one first, that stand in another place than they should.

    Looked at are those of the open batch, and those that stand where only its members may.
    """
    wanted = batch_scores(session, project_id)
    standing = (
        select(Push, Task.ls_id)
        .join(Task, Task.id == Push.task_id)
        .where(Push.project_id == project_id, Push.version_id.in_(versions), Push.gone_at.is_(None))
    )
    # Two questions, each with an index: in one, the whole pool would be looked through at every step.
    members = standing.where(Task.project_id == project_id, in_open_batch(project_id))
    front = standing.where(or_(Push.score < LEAST, Push.score.is_(None)))
    found = {push.ls_prediction_id: (push, ls_id) for push, ls_id in session.execute(front)}
    if wanted:
        found |= {push.ls_prediction_id: (push, ls_id) for push, ls_id in session.execute(members)}
    rows = [row for row in found.values() if row[0].score is None or row[0].score != wanted.get(row[1])]
    labelled: set[int] = set()
    plain: dict[tuple[str, int], float] = {}
    for some in batches(sorted({ls_id for _, ls_id in rows}), ROWS_AT_ONCE, lambda _: 0):
        mine = Task.project_id == project_id, Task.ls_id.in_(some)
        labelled.update(session.scalars(select(Task.ls_id).where(*mine, drawn())))
        plain |= _plain_scores(session, project_id, versions, [ls_id for ls_id in some if ls_id not in wanted])
    due = []
    for push, ls_id in rows:
        score = wanted.get(ls_id, plain.get((push.version_id, ls_id)))
        if score is not None and score != push.score:
            place = score if push.score is None else min(score, push.score)
            due.append(Due(push.ls_prediction_id, score, (push.version_id != versions[0], ls_id in labelled, place)))
    return sorted(due, key=lambda row: (row.urgency, row.ls_prediction_id))


def _plain_scores(
    session: Session, project_id: int, versions: Sequence[str], ls_ids: Iterable[int]
) -> dict[tuple[str, int], float]:
    """(version, task in Label Studio) -> its serving score outside a batch, of those that are predicted."""
    # The tasks first: joined, a database without statistics may go through all predictions for each of them.
    mine = Task.project_id == project_id, Task.deleted_at.is_(None), Task.ls_id.in_(ls_ids)
    parts = session.execute(select(Task.ls_id, Task.image_digest, Task.prompt_digest).where(*mine)).all()
    statement = select(
        Prediction.version_id, Prediction.image_digest, Prediction.prompt_digest, Prediction.uncertainty
    ).where(
        Prediction.version_id.in_(versions),
        Prediction.image_digest.in_({image for _, image, _ in parts if image}),
        Prediction.uncertainty.is_not(None),
    )
    said: dict[tuple[str, str], dict[str, float]] = {}
    for version, image, prompts, uncertainty in session.execute(statement):
        said.setdefault((version, image), {})[prompts] = float(uncertainty or 0.0)
    most: dict[tuple[str, int], float] = {}
    for version in versions:
        for ls_id, digest, prompts in parts:
            if answers := said.get((version, digest or "")):
                # What an image was asked before stands in Label Studio until its new masks are there.
                now = answers.get(prompts, max(answers.values()))
                most[version, ls_id] = max(now, most.get((version, ls_id), 0.0))
    return {key: plain_score(uncertainty) for key, uncertainty in most.items()}
