"""Predictions in Label Studio that are to be made anew"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("pushes", sa.Column("stale", sa.String(10), nullable=False, server_default=""))
    op.add_column("pushes", sa.Column("stale_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("pushes") as batch:
        batch.drop_column("stale_at")
        batch.drop_column("stale")
