"""Groups and blind images, models with a manifest, models in shadow, and one open round per project"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

OPEN = sa.text("state IN ('queued', 'running')")


def upgrade() -> None:
    with op.batch_alter_table("projects") as batch:
        batch.add_column(sa.Column("grouping", sa.JSON(), nullable=False, server_default="{}"))
        batch.add_column(sa.Column("grouped_with", sa.String(16), nullable=False, server_default=""))
        batch.add_column(sa.Column("blind_share", sa.Double(), nullable=False, server_default="0"))
    op.add_column("images", sa.Column("phash", sa.String(16), nullable=True))
    op.add_column("images", sa.Column("thumbnail", sa.String(512), nullable=True))
    op.add_column("tasks", sa.Column("group_key", sa.String(200), nullable=False, server_default=""))
    op.add_column("tasks", sa.Column("blind", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("models", sa.Column("manifest_digest", sa.String(64), nullable=True))
    op.add_column("models", sa.Column("pruned_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("models", sa.Column("fault", sa.String(), nullable=True))
    with op.batch_alter_table("champions") as batch:
        batch.add_column(sa.Column("challenger_id", sa.Integer(), nullable=True))
        batch.add_column(sa.Column("challenger_since", sa.DateTime(timezone=True), nullable=True))
        batch.create_foreign_key("fk_champions_challenger_id", "models", ["challenger_id"], ["id"])
    op.add_column("rounds", sa.Column("decision", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("rounds", sa.Column("holder", sa.String(200), nullable=True))
    op.add_column("rounds", sa.Column("held_until", sa.DateTime(timezone=True), nullable=True))
    # Earlier releases kept to one open round by their reading alone: should there be more, the newest are given up.
    rounds = sa.table("rounds", sa.column("id"), sa.column("project_id"), sa.column("state"), sa.column("reason"))
    first = sa.select(sa.func.min(rounds.c.id)).where(OPEN).group_by(rounds.c.project_id)
    given_up = sa.update(rounds).where(OPEN, rounds.c.id.not_in(first.scalar_subquery()))
    op.get_bind().execute(given_up.values(state="cancelled", reason="another round of the project was open"))
    op.create_index("ux_rounds_open", "rounds", ["project_id"], unique=True, sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_table(
        "cursors",
        sa.Column("name", sa.String(60), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def downgrade() -> None:
    op.drop_table("cursors")
    op.drop_index("ux_rounds_open", "rounds")
    with op.batch_alter_table("champions") as batch:
        batch.drop_constraint("fk_champions_challenger_id", type_="foreignkey")
        batch.drop_column("challenger_since")
        batch.drop_column("challenger_id")
    for table, names in {
        "rounds": ("held_until", "holder", "decision"),
        "models": ("fault", "pruned_at", "manifest_digest"),
        "tasks": ("blind", "group_key"),
        "images": ("thumbnail", "phash"),
        "projects": ("blind_share", "grouped_with", "grouping"),
    }.items():
        with op.batch_alter_table(table) as batch:
            for name in names:
                batch.drop_column(name)
