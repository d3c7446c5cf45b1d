"""The open batch as a tab of Label Studio's Data Manager, in its order; the tab goes when the batch has ended."""

import logging

from sqlalchemy import and_, func, or_, select

from maskloop_backend.labelstudio.client import LabelStudio
from maskloop_backend.labelstudio.paging import Condition
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Batch, BatchItem, Project
from maskloop_learner.select.order import LEAST

log = logging.getLogger(__name__)

IN_BATCH = Condition("predictions_score", "less", "Number", LEAST)
"""What only members of the open batch fulfil."""
IN_ORDER = "tasks:predictions_score"


def follow_batches(pool: Pool, client: LabelStudio, project: Project) -> None:
    """Make the tab of an open batch, and remove those of others. Safe to repeat after a crash at any point."""
    opened = and_(Batch.state == "open", Batch.ls_view_id.is_(None))
    ended = and_(Batch.state != "open", Batch.ls_view_id.is_not(None))
    size = select(func.count(BatchItem.id)).where(BatchItem.batch_id == Batch.id).scalar_subquery()
    statement = select(Batch, size).where(Batch.project_id == project.id, or_(opened, ended))
    with pool.read() as session:
        found = [(batch, count) for batch, count in session.execute(statement)]
    for batch, count in found:
        number: int | None = None
        if batch.ls_view_id is not None:
            client.delete_view(batch.ls_view_id)
        else:
            # By its title: after a crash the tab may be there already.
            number = client.ensure_view(project.ls_id, tab_title(batch, count), ordering=IN_ORDER, where=[IN_BATCH])
        with pool.write() as session:
            session.get_one(Batch, batch.id).ls_view_id = number
        log.info(
            "project %d: batch %d is %s, its tab is %s", project.ls_id, batch.number, batch.state, number or "gone"
        )


def tab_title(batch: Batch, count: int) -> str:
    """What the tab is called: "Batch 3: uncertainty, 40 images"."""
    return f"Batch {batch.number}: {batch.strategy}, {count} image{'' if count == 1 else 's'}"
