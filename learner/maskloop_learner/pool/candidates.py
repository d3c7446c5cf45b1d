"""The unlabelled images of a project as arrays, for strategies to choose from: columns, never rows as objects."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Executable, func, null, select
from sqlalchemy.orm import Session

from maskloop_learner.pool.embedding import find_space, read_vectors
from maskloop_learner.pool.queries import UNCERTAINTY, answers, drawn, servable, touched
from maskloop_learner.pool.schema import Batch, BatchItem, Image, Prediction, Rank, Score, Task
from maskloop_learner.select.candidates import Candidates
from maskloop_learner.select.options import DEFAULT_SCORE, ChoosingError, check_score

ROWS_AT_ONCE = 5000
Numbers = NDArray[np.int64]


def load_candidates(
    session: Session,
    project_id: int,
    version_id: str | None,
    *,
    score: str = DEFAULT_SCORE,
    embeddings: bool = True,
    looks: bool = True,
    leave_out_open_batch: bool = False,
) -> Candidates:
    """The project's tasks that nobody has labelled or skipped and that have not failed, with what is known of them.

    `ids` are `Task.id` of the first of a task's images; a task of several stands where its most uncertain one does,
    as in `queries.ranking`, and ties fall by Label Studio's id as there. Tasks that the version has not scored yet
    are among them, with NaN; with `version_id` None all are.

    score: measure/aggregation; over several labels the largest counts. One that is 0 in all ranks, which may be of a
    single pass, is taken from the masks' samples, and not known of images without a mask. Shares are the largest over
    a task's images. embeddings, looks: whether to read these, which take memory. leave_out_open_batch: without the
    tasks of the project's open batch.

    Raises ChoosingError for a score that there is not, and for one that was kept of no image.
    """
    check_score(score)
    images = _read_images(session, project_id, version_id, score=score, looks=looks)
    first = _first_parts(session, project_id)
    for at, ls_id in enumerate(images.ls_ids.tolist()):
        images.ids[at] = first.get(ls_id, images.ids[at])
    if leave_out_open_batch:
        keep = ~np.isin(images.ids, list(_open_batch(session, project_id)))
        images = images.take(np.flatnonzero(keep))
    images = images.take(np.argsort(images.ids))
    labels, shares = _read_shares(session, project_id, version_id, images)
    space = find_space(session, project_id) if embeddings else None
    vectors = _read_embeddings(session, project_id, space, images)
    labelled_ids, labelled = _read_labelled(session, project_id, space, vectors.shape[1], first)
    return Candidates(
        ids=images.ids,
        scores=images.scores,
        groups=_number(images.groups),
        shares=shares,
        embeddings=vectors,
        labelled=labelled,
        phashes=images.phashes,
        thumbnails=images.thumbnails,
        ties=images.ls_ids,
        labelled_ids=labelled_ids,
        labels=labels,
    )


@dataclass
class _Images:
    """Of every task the image by which it stands, as columns."""

    ids: Numbers
    tasks: Numbers
    """`Task.id` of the image itself."""
    ls_ids: Numbers
    scores: NDArray[np.float64]
    groups: list[str]
    phashes: list[str | None]
    thumbnails: list[str | None]

    def take(self, rows: Numbers) -> "_Images":
        where = rows.tolist()
        some = [[each[at] for at in where] if each else [] for each in (self.phashes, self.thumbnails)]
        return _Images(
            ids=self.ids[rows],
            tasks=self.tasks[rows],
            ls_ids=self.ls_ids[rows],
            scores=self.scores[rows],
            groups=[self.groups[at] for at in where],
            phashes=some[0],
            thumbnails=some[1],
        )


def _read_images(session: Session, project_id: int, version_id: str | None, *, score: str, looks: bool) -> _Images:
    other = score != DEFAULT_SCORE and version_id is not None
    statement = (
        select(
            Task.id,
            Task.ls_id,
            Task.group_key,
            UNCERTAINTY,
            Rank.aggregates if other else null(),
            Image.phash if looks else null(),
            Image.thumbnail if looks else null(),
        )
        .join(Image, Image.digest == Task.image_digest)
        # No version has the id "": all joins come out empty.
        .outerjoin(Prediction, answers(Prediction, version_id or ""))
        .outerjoin(Rank, answers(Rank, version_id or ""))
        .where(*servable(project_id), ~touched(), Prediction.error.is_(None))
        .order_by(Task.ls_id, Task.id)
    )
    best: dict[int, tuple[float, int]] = {}
    rows: list[tuple[int, int, str, float, str | None, str | None]] = []
    for task, ls_id, group, uncertainty, aggregates, phash, thumbnail in _stream(session, statement):
        place = -1.0 if uncertainty is None else uncertainty
        value = _pick_score(aggregates, score) if other else uncertainty
        row = task, ls_id, group or "", np.nan if value is None else value, phash, thumbnail
        known = best.get(ls_id)
        if known is None:
            best[ls_id] = place, len(rows)
            rows.append(row)
        elif place > known[0]:
            best[ls_id] = place, known[1]
            rows[known[1]] = row
    tasks = np.array([row[0] for row in rows], np.int64)
    scores = np.array([row[3] for row in rows], np.float64)
    if other and np.isnan(scores).all() and any(place >= 0 for place, _ in best.values()):
        raise ChoosingError(
            f"{score} was kept of no image: an earlier release predicted them, which kept the mean uncertainty only; "
            f"train once more, or take the score {DEFAULT_SCORE!r}"
        )
    if version_id is not None and other and (scores == 0).any() and not (scores > 0).any():
        # Ranks of a single pass know predictive entropy only; masks are drawn with all samples.
        scores = _read_mask_scores(session, project_id, version_id, score=score, tasks=tasks)
    return _Images(
        ids=tasks.copy(),
        tasks=tasks,
        ls_ids=np.array([row[1] for row in rows], np.int64),
        scores=scores,
        groups=[row[2] for row in rows],
        phashes=[row[4] for row in rows] if looks else [],
        thumbnails=[row[5] for row in rows] if looks else [],
    )


def _read_mask_scores(
    session: Session, project_id: int, version_id: str, *, score: str, tasks: Numbers
) -> NDArray[np.float64]:
    where = {task: at for at, task in enumerate(tasks.tolist())}
    found = np.full(len(tasks), np.nan)
    statement = (
        select(Task.id, Score.label, Score.aggregates)
        .join(Prediction, answers(Prediction, version_id))
        .join(Score, Score.prediction_id == Prediction.id)
        .where(*servable(project_id), ~touched())
    )
    for task, label, aggregates in _stream(session, statement):
        value = _pick_score({label: aggregates} if aggregates else None, score)
        if value is not None and (at := where.get(task)) is not None:
            found[at] = value if np.isnan(found[at]) else max(value, found[at])
    if not (found > 0).any():
        raise ChoosingError(
            f"{score} is 0 for every image, and no mask is drawn yet: this model ranks by a single pass, which knows "
            "predictive_entropy only; wait for the masks, or set MASKLOOP_CHEAP_RANKING=false to rank with all samples"
        )
    return found


def _stream(session: Session, statement: Executable) -> Iterable[Any]:
    # Some thousand rows at a time: a hundred thousand with their pictures would be held twice. By the connection: the
    # session would look each row through for objects.
    return session.connection().execute(statement, execution_options={"yield_per": ROWS_AT_ONCE})


def _pick_score(aggregates: dict[str, Any] | None, score: str) -> float | None:
    """The largest over the labels; None where this score is not kept."""
    measure, _, aggregation = score.partition("/")
    try:
        return max((float(each[measure][aggregation]) for each in (aggregates or {}).values()), default=None)
    except KeyError:
        return None  # an earlier release kept fewer


def _first_parts(session: Session, project_id: int) -> dict[int, int]:
    """Label Studio's id -> id of the first image, of tasks with several."""
    statement = (
        select(Task.ls_id, func.min(Task.id))
        .where(Task.project_id == project_id, Task.deleted_at.is_(None))
        .group_by(Task.ls_id)
        .having(func.count(Task.id) > 1)
    )
    return {ls_id: first for ls_id, first in session.execute(statement)}  # noqa: C416 - typed rows


def _open_batch(session: Session, project_id: int) -> set[int]:
    statement = (
        select(BatchItem.task_id)
        .join(Batch, Batch.id == BatchItem.batch_id)
        .where(Batch.project_id == project_id, Batch.state == "open")
    )
    return set(session.scalars(statement))


def _read_shares(
    session: Session, project_id: int, version_id: str | None, images: _Images
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Names of the labels, and [N, L] of the largest share over each task's images; NaN where nothing is predicted."""
    where = {ls_id: at for at, ls_id in enumerate(images.ls_ids.tolist())}
    found: dict[str, NDArray[np.float64]] = {}
    statement = (
        select(Task.ls_id, Score.label, Score.area, Image.width * Image.height)
        .join(Prediction, answers(Prediction, version_id or ""))
        .join(Score, Score.prediction_id == Prediction.id)
        .join(Image, Image.digest == Task.image_digest)
        .where(*servable(project_id))
    )
    for ls_id, label, area, pixels in _stream(session, statement) if version_id is not None else ():
        if (at := where.get(ls_id)) is not None:
            if label not in found:
                found[label] = np.full(len(where), np.nan)
            known = found[label][at]
            found[label][at] = max(area / pixels, 0.0 if np.isnan(known) else known)
    labels = tuple(sorted(found))
    table = np.stack([found[label] for label in labels], 1) if labels else np.empty((len(where), 0))
    return labels, table


def _read_embeddings(session: Session, project_id: int, space: str | None, images: _Images) -> NDArray[np.float32]:
    if space is None:
        return np.empty((len(images.ids), 0), np.float32)
    statement = select(Task.id).where(*servable(project_id), ~touched())
    return read_vectors(session, statement, space, images.tasks)


def _read_labelled(
    session: Session, project_id: int, space: str | None, width: int, first: dict[int, int]
) -> tuple[Numbers, NDArray[np.float32]]:
    if space is None:
        return np.empty(0, np.int64), np.empty((0, width), np.float32)
    statement = select(Task.id, Task.ls_id).where(*servable(project_id), drawn()).order_by(Task.id)
    rows = session.execute(statement).all()
    tasks = np.array([task for task, _ in rows], np.int64)
    ids = np.array([first.get(ls_id, task) for task, ls_id in rows], np.int64)
    vectors = read_vectors(session, select(Task.id).where(*servable(project_id), drawn()), space, tasks)
    known = ~np.isnan(vectors).any(1)
    return ids[known], vectors[known]


def _number(keys: Sequence[str]) -> Numbers:
    """A number for each key, the same for equal ones; -1 for ""."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(key, len(known)) if key else -1 for key in keys], np.int64)
