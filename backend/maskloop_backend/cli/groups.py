"""`maskloop groups`: what keeps images together in the split, and which are annotated without a mask shown."""

from dataclasses import asdict
from typing import Annotated

import typer

from maskloop_backend.cli.context import open_pool, pick_project, print_json
from maskloop_backend.cli.ranking import ProjectOption
from maskloop_backend.grouping import Asked, apply, look, note_change
from maskloop_learner.pool.schema import Project

FieldOption = Annotated[
    str | None,
    typer.Option(
        "--group-field", help="Field of the tasks' data with the patient, case or video; images of one stay together."
    ),
]
PatternOption = Annotated[
    str | None,
    typer.Option(
        "--group-pattern",
        help='Regular expression on the image\'s name, its first group is the key: "^(P\\d+)_". One with a slash is '
        'searched in the whole path: "(P\\d+)/".',
    ),
]
SourceOption = Annotated[
    str | None, typer.Option("--source-field", help="Field of the tasks' data with the site or scanner, for the gate.")
]
BlindOption = Annotated[
    float | None,
    typer.Option(
        "--blind-share", help="Share of the groups, 0 to 0.5, annotated without a mask shown and kept for validation."
    ),
]


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(groups)


def groups(
    project: ProjectOption = None,
    field: FieldOption = None,
    pattern: PatternOption = None,
    source: SourceOption = None,
    blind_share: BlindOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would become of it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """Show how images are grouped, or change it: no group is ever parted by the split. An empty text takes a rule away.

    What has validated stays in validation, with the groups that it belongs to now.
    """
    pool = open_pool()
    chosen = pick_project(pool, project)
    asked = Asked(field=field, pattern=pattern, source=source, blind_share=blind_share)
    if asked and not dry_run:
        with pool.write() as session:
            row = session.get_one(Project, chosen.id)
            apply(row, asked)
            note_change(session, row)
    with pool.read() as session:
        row = session.get_one(Project, chosen.id)
        apply(row, asked)
        found = look(session, row)
    if as_json:
        print_json({**asdict(found), "warning": found.warning()})
        return
    for sentence in found.sentences():
        print(f"{sentence}.")
    if (warning := found.warning()) is not None:
        print(f"Warning: {warning}.")
    if asked and not dry_run:
        print("`maskloop up` works the groups out at its next look; the next snapshot is split by them.")
