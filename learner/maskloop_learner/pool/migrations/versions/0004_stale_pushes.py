"""Predictions in Label Studio that are to be made anew; earlier labels know the labels of their time"""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("pushes", sa.Column("stale", sa.String(10), nullable=False, server_default=""))
    op.add_column("pushes", sa.Column("stale_at", sa.DateTime(timezone=True), nullable=True))
    projects = sa.table("projects", sa.column("id", sa.Integer()), sa.column("control", sa.JSON()))
    tasks = sa.table("tasks", sa.column("id", sa.Integer()), sa.column("project_id", sa.Integer()))
    labels = sa.table("labels", sa.column("task_id", sa.Integer()), sa.column("known", sa.JSON()))
    connection = op.get_bind()
    for number, control in connection.execute(sa.select(projects.c.id, projects.c.control)).all():
        # Or a label that is added from now on would pass for looked for, and absent, on all that was labelled before.
        names = (_read(control) or {}).get("labels")
        if names:
            mine = labels.c.task_id.in_(sa.select(tasks.c.id).where(tasks.c.project_id == number))
            unsaid = labels.c.known.is_(sa.null())
            connection.execute(sa.update(labels).where(mine, unsaid).values(known=names))


def downgrade() -> None:
    with op.batch_alter_table("pushes") as batch:
        batch.drop_column("stale_at")
        batch.drop_column("stale")


def _read(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value
