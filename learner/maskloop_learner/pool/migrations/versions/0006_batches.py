"""Batches with reasons, where labels came from and what was shown, embeddings, uncertainty maps, paused schedules"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

OPEN = sa.text("state = 'open'")
UNSEEN = sa.text("shown IS NULL")


def upgrade() -> None:
    with op.batch_alter_table("batches") as batch:
        batch.drop_column("items")  # no release has written a batch
        batch.add_column(sa.Column("number", sa.Integer(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("state", sa.String(10), nullable=False, server_default="closed"))
        batch.add_column(sa.Column("options", sa.JSON(), nullable=False, server_default="{}"))
        batch.add_column(sa.Column("seed", sa.Integer(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("note", sa.String(), nullable=False, server_default=""))
        batch.add_column(sa.Column("ls_view_id", sa.Integer(), nullable=True))
        batch.add_column(sa.Column("created_by", sa.String(200), nullable=False, server_default=""))
    op.create_index("ux_batches_open", "batches", ["project_id"], unique=True, sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_table(
        "batch_items",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("batch_id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("slot", sa.String(20), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"]),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("batch_id", "task_id"),
    )
    op.create_index("ix_batch_items_task_id", "batch_items", ["task_id"])
    op.create_table(
        "embeddings",
        sa.Column("image_digest", sa.String(64), nullable=False),
        sa.Column("space", sa.String(60), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["image_digest"], ["images.digest"]),
        sa.PrimaryKeyConstraint("image_digest", "space"),
    )
    with op.batch_alter_table("labels") as batch:
        batch.add_column(sa.Column("batch_id", sa.Integer(), nullable=True))
        batch.create_foreign_key("fk_labels_batch_id", "batches", ["batch_id"], ["id"])
        batch.add_column(sa.Column("shown", sa.String(10), nullable=True))
        batch.add_column(sa.Column("shown_version", sa.String(40), nullable=True))
        batch.add_column(sa.Column("unedited", sa.Boolean(), nullable=True))
        batch.add_column(sa.Column("agreement", sa.JSON(), nullable=False, server_default="{}"))
    op.create_index("ix_labels_uncompared", "labels", ["task_id"], sqlite_where=UNSEEN, postgresql_where=UNSEEN)
    op.create_index("ix_events_kind", "events", ["project_id", "kind", "id"])
    op.create_index("ix_pushes_score", "pushes", ["project_id", "version_id", "score"])
    op.add_column("scores", sa.Column("map_digest", sa.String(64), nullable=True))
    op.add_column("projects", sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("projects", sa.Column("paused_by", sa.String(200), nullable=False, server_default=""))


def downgrade() -> None:
    with op.batch_alter_table("projects") as batch:
        batch.drop_column("paused_by")
        batch.drop_column("paused_at")
    op.drop_index("ix_pushes_score", "pushes")
    op.drop_index("ix_events_kind", "events")
    with op.batch_alter_table("scores") as batch:
        batch.drop_column("map_digest")
    op.drop_index("ix_labels_uncompared", "labels")
    with op.batch_alter_table("labels") as batch:
        for name in ("agreement", "unedited", "shown_version", "shown"):
            batch.drop_column(name)
        batch.drop_constraint("fk_labels_batch_id", type_="foreignkey")
        batch.drop_column("batch_id")
    op.drop_table("embeddings")
    op.drop_table("batch_items")
    op.drop_index("ux_batches_open", "batches")
    with op.batch_alter_table("batches") as batch:
        for name in ("created_by", "ls_view_id", "seed", "options", "state", "number", "note"):
            batch.drop_column(name)
        batch.add_column(sa.Column("items", sa.JSON(), nullable=False, server_default="[]"))
