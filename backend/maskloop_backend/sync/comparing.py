"""Labels are compared with what their annotators were shown: once each, when they come, or later for older ones.

The pages read the result. Pictures are decoded here, where nobody waits for them.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, select, update

from maskloop_backend.labelstudio.controls import Interface
from maskloop_backend.masks.regions import from_regions, to_regions
from maskloop_backend.sync.showing import Showing, find_shown
from maskloop_learner.evaluate.corrections import Correction, measure_correction
from maskloop_learner.pool.masks import Mask, decode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import scores_of
from maskloop_learner.pool.schema import Label, Project, Task
from maskloop_learner.pool.store import BlobError

log = logging.getLogger(__name__)

AT_ONCE = 20
"""Labels in one transaction."""
AHEAD = 1000
"""Labels that are looked for at once."""
SECONDS_AT_ONCE = 2.0
"""For which labels are compared before other work has its turn."""


def compare_labels(pool: Pool, project_id: int, *, beat: Callable[[], None]) -> bool:
    """Note of the project's labels what was shown and how far it was changed, for a while; whether more are to do.

    Safe to end at any point: what is not noted is looked up again. Raises StoreDown when masks cannot be had now.
    """
    end = time.monotonic() + SECONDS_AT_ONCE
    with pool.read() as session:
        waiting = session.scalars(_uncompared(project_id)).all()
    compared = 0
    for start in range(0, len(waiting), AT_ONCE):
        if time.monotonic() > end:
            return True
        compared += _compare_some(pool, project_id, waiting[start : start + AT_ONCE], beat=beat)
    return len(waiting) == AHEAD and compared > 0


def _uncompared(project_id: int) -> Select[int]:
    """Ids of labels that nobody compared yet, by the index of these: there are few, and this is asked all the time."""
    return (
        select(Label.id)
        .join(Task, Task.id == Label.task_id)
        .where(Label.shown.is_(None), Label.current, ~Label.cancelled, ~Label.deleted, Label.error.is_(None))
        # As a sum, the index of the project's tasks is no choice: it would be gone through whole.
        .where(Task.project_id + 0 == project_id)
        .order_by(Label.task_id)
        .limit(AHEAD)
    )


def _compare_some(pool: Pool, project_id: int, ids: Sequence[int], *, beat: Callable[[], None]) -> int:
    """Compare these labels; return of how many it is noted."""
    statement = select(Label, Task).join(Task, Task.id == Label.task_id).where(Label.id.in_(ids))
    with pool.read() as session:
        interface = Interface.from_json(session.get_one(Project, project_id).control)
        found = [(label, task, find_shown(session, label, task)) for label, task in session.execute(statement)]
        predictions = [showing.prediction.id for _, _, showing in found if showing and showing.prediction]
        scores = scores_of(session, predictions)
    rows: list[dict[str, Any]] = []
    for label, task, showing in found:
        beat()
        if showing is None:
            continue
        drawn = {}
        if showing.prediction is not None:
            drawn = {score.label: score.mask_digest for score in scores.get(showing.prediction.id, [])}
        rows.append(_row(label, showing, _correct(pool, interface.on(task.part), label, task, showing, drawn)))
    if rows:
        with pool.write() as session:
            session.execute(update(Label), rows)
    return len(rows)


def _row(label: Label, showing: Showing, correction: Correction | None) -> dict[str, Any]:
    row = {"id": label.id, "shown": showing.shown, "shown_version": showing.version}
    if correction is None:
        return {**row, "unedited": None, "agreement": {}}
    return {**row, "unedited": correction.unedited, "agreement": correction.dice}


def _correct(
    pool: Pool, interface: Interface, label: Label, task: Task, showing: Showing, drawn: Mapping[str, str]
) -> Correction | None:
    if showing.prediction is None:
        return None

    def read(digests: Mapping[str, str]) -> dict[str, Mask]:
        return {name: decode_mask(pool.store.get("masks", digest)) for name, digest in digests.items()}

    try:
        return measure_correction(as_shown(read(drawn), interface), read(label.masks), known=label.known)
    except (BlobError, ValueError) as error:
        # A mask that is lost, or one of an image that was replaced since: for ever so.
        log.warning("task %d: label %d cannot be compared with what was shown: %s", task.ls_id, label.id, error)
        return None


def as_shown(masks: Mapping[str, Mask], interface: Interface) -> dict[str, Mask]:
    """The masks as the page draws them: a brush or a bitmask to the pixel, a polygon with a simpler outline.

    masks: label -> bool H x W, of the image that `interface` concerns.
    """
    found = dict(masks)
    for name, mask in masks.items():
        control = next((control for control in interface.controls if name in control.labels), None)
        if control is not None and control.kind == "polygon":
            height, width = mask.shape
            regions = to_regions({name: mask}, controls=[control], region_prefix="")
            found[name] = from_regions(regions, controls=[control], width=width, height=height)[name]
    return found
