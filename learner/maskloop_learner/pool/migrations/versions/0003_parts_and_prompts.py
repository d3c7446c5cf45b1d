"""Several images and mask tags per task, prompts of single tasks, and which labels an annotator could draw"""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NAMES = {"uq": "uq_%(table_name)s_%(column_0_name)s"}
KEYS = {
    "tasks": (["project_id", "ls_id"], "part", "tasks_project_id_ls_id_key"),
    "predictions": (["version_id", "image_digest"], "prompt_digest", "predictions_version_id_image_digest_key"),
    "ranks": (["version_id", "image_digest"], "prompt_digest", "ranks_version_id_image_digest_key"),
}


def upgrade() -> None:
    with op.batch_alter_table("projects") as batch:
        batch.add_column(sa.Column("sheet_digest", sa.String(16), nullable=False, server_default=""))
        batch.add_column(sa.Column("prompted_with", sa.String(16), nullable=False, server_default=""))
    with op.batch_alter_table("labels") as batch:
        batch.add_column(sa.Column("known", sa.JSON(), nullable=True))
        batch.add_column(sa.Column("prompts", sa.JSON(), nullable=False, server_default="{}"))
    with op.batch_alter_table("scores") as batch:
        batch.add_column(sa.Column("prompt", sa.String(), nullable=False, server_default=""))
        batch.add_column(sa.Column("prompt_source", sa.String(40), nullable=False, server_default=""))
    columns: dict[str, list[sa.Column[Any]]] = {
        "tasks": [
            sa.Column("part", sa.String(200), nullable=False, server_default=""),
            sa.Column("sheet_prompts", sa.JSON(), nullable=False, server_default="{}"),
            sa.Column("typed_prompts", sa.JSON(), nullable=False, server_default="{}"),
            sa.Column("prompts", sa.JSON(), nullable=False, server_default="{}"),
            sa.Column("prompt_digest", sa.String(16), nullable=False, server_default=""),
        ],
        "predictions": [sa.Column("prompt_digest", sa.String(16), nullable=False, server_default="")],
        "ranks": [sa.Column("prompt_digest", sa.String(16), nullable=False, server_default="")],
    }
    for table, (key, more, name) in KEYS.items():
        with op.batch_alter_table(table, naming_convention=NAMES) as batch:
            for column in columns[table]:
                batch.add_column(column)
            batch.drop_constraint(_constraint(table, key, name), type_="unique")
            batch.create_unique_constraint(f"uq_{table}_{key[0]}", [*key, more])
    op.create_table(
        "prompt_sets",
        sa.Column("digest", sa.String(16), nullable=False),
        sa.Column("prompts", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    projects = sa.table("projects", sa.column("id", sa.Integer()), sa.column("control", sa.JSON()))
    tasks = sa.table("tasks", sa.column("project_id", sa.Integer()), sa.column("part", sa.String()))
    connection = op.get_bind()
    for number, control in connection.execute(sa.select(projects.c.id, projects.c.control)).all():
        kept = json.loads(control) if isinstance(control, str) else control
        if not kept or "controls" in kept:
            continue
        # Until now a project had one BrushLabels on one image.
        tag = {"kind": "brush", **{name: kept[name] for name in ("from_name", "to_name", "data_key", "labels")}}
        new = {"controls": [tag], "prompt_tags": [], "labels": kept["labels"]}
        connection.execute(sa.update(projects).where(projects.c.id == number).values(control=new))
        connection.execute(sa.update(tasks).where(tasks.c.project_id == number).values(part=kept["data_key"]))


def downgrade() -> None:
    raise NotImplementedError("tasks with several images cannot be put back; restore a backup of the pool instead")


def _constraint(table: str, key: list[str], name: str) -> str:
    return f"uq_{table}_{key[0]}" if op.get_bind().dialect.name == "sqlite" else name
