"""Ranks before masks, and every aggregation of a score"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("scores", schema=None) as batch_op:
        batch_op.add_column(sa.Column("aggregates", sa.JSON(), nullable=False, server_default="{}"))
    op.create_table(
        "ranks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.String(length=40), nullable=False),
        sa.Column("image_digest", sa.String(length=64), nullable=False),
        sa.Column("uncertainty", sa.Double(), nullable=False),
        sa.Column("aggregates", sa.JSON(), nullable=False),
        sa.Column("method", sa.String(length=40), nullable=False),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["image_digest"], ["images.digest"]),
        sa.ForeignKeyConstraint(["version_id"], ["prediction_versions.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("version_id", "image_digest"),
    )


def downgrade() -> None:
    op.drop_table("ranks")
    with op.batch_alter_table("scores", schema=None) as batch_op:
        batch_op.drop_column("aggregates")
