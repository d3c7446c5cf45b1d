"""`maskloop batch`: choose what is labelled next, see why, and have it served first."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from maskloop_backend.batch_files import describe, describe_plan, preview, to_csv, to_json
from maskloop_backend.cli.awaiting import tell_sync
from maskloop_backend.cli.batch_tables import TableFormat, form_of, show_rows, title_of
from maskloop_backend.cli.context import open_pool, pick_project, print_json
from maskloop_backend.cli.errors import CommandError
from maskloop_backend.cli.model_serving import who
from maskloop_backend.cli.ranking import ProjectOption
from maskloop_backend.cli.weights import JsonOption
from maskloop_learner.pool.batches import Ended, end_batch, find_batch, list_batches, refuse_second
from maskloop_learner.pool.members import Member, count_states, members
from maskloop_learner.pool.planning import Asked, lock_batch, plan_batch
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Batch
from maskloop_learner.select.options import Options
from maskloop_learner.select.strategies import DEFAULT, STRATEGIES

NumberArgument = Annotated[int | None, typer.Argument(help="Number of the batch; left out: the open one, or the last.")]
STRATEGY_HELP = "How to choose. " + "; ".join(f"{each.name}: {each.help}" for each in STRATEGIES.values()) + "."


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    group = typer.Typer(no_args_is_help=True, help="Batches: choose what is labelled next, see why, serve it first.")
    group.command()(create)
    group.command("list")(list_all)
    for command in (show, close, undo, export):
        group.command()(command)
    app.add_typer(group, name="batch")


def create(
    project: ProjectOption = None,
    size: Annotated[int, typer.Option(min=1, help="How many images.")] = 40,
    strategy: Annotated[str, typer.Option(help=STRATEGY_HELP)] = DEFAULT,
    score: Annotated[
        str | None,
        typer.Option(help="Score to rank by, as in `maskloop rank --by`; left out: what the strategy is meant for."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of what is drawn by lot; left out: the number of the batch.")
    ] = None,
    random_share: Annotated[
        float, typer.Option(help="Share of the batch, 0 to 1, that is drawn by lot from all images.")
    ] = Options.random_share,
    group_cap: Annotated[
        int | None, typer.Option(help="Most images of one group (a patient, a video); left out: any number.")
    ] = None,
    keep_duplicates: Annotated[
        bool, typer.Option("--keep-duplicates", help="Also take images that are nearly the same picture as another.")
    ] = False,
    beta: Annotated[
        float | None, typer.Option(help="Of power and claspe: 0 draws by lot, inf ranks; left out: grows with batches.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be chosen.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Choose a batch, lock it, and have Label Studio serve it before all else, in its order."""
    pool = open_pool()
    chosen = pick_project(pool, project)
    options = Options(
        random_share=random_share, group_cap=group_cap, keep_duplicates=keep_duplicates, beta=beta, score=score
    )
    if not dry_run:
        with pool.read() as session:
            # Before seconds of choosing; the database refuses a second one in any case.
            refuse_second(session, chosen.id)
    planned = plan_batch(pool, chosen.id, Asked(size=size, strategy=strategy, seed=seed, options=options))
    if dry_run:
        with pool.read() as session:
            rows = preview(session, planned)
        if as_json:
            print_json(describe_plan(planned, rows))
        else:
            show_rows(f"{chosen.title}: would be chosen", rows, note=planned.note)
        return
    batch = lock_batch(pool, chosen.id, planned, by=f"{who()} (batch command)")
    heard = tell_sync(chosen.ls_id)
    with pool.read() as session:
        rows = members(session, batch)
    if as_json:
        print_json(describe(batch, rows))
        return
    show_rows(title_of(batch, rows), rows, note=batch.note)
    follows = "in a moment" if heard else "when `maskloop up` runs"
    print(f"Label Studio serves it first, and shows it as a tab of the Data Manager, {follows}.")


def list_all(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """List the batches: how each was chosen, and how far it is."""
    pool = open_pool()
    chosen = pick_project(pool, project)
    with pool.read() as session:
        found = [(batch, members(session, batch)) for batch in list_batches(session, chosen.id)]
    if as_json:
        print_json([describe(batch, rows, items=False) for batch, rows in found])
        return
    table = Table(title=f"{escape(chosen.title)}: {len(found)} batches")
    for name in ("batch", "state", "strategy", "images", "labelled", "waiting", "made", "by"):
        table.add_column(name, justify="right" if name in ("batch", "images", "labelled", "waiting") else "left")
    for batch, rows in found:
        count = count_states(rows)
        made = f"{batch.created_at:%Y-%m-%d %H:%M}"
        figures = (str(len(rows)), str(count["labelled"]), str(count["waiting"]))
        table.add_row(str(batch.number), batch.state, batch.strategy, *figures, made, escape(batch.created_by))
    Console().print(table)


def show(number: NumberArgument = None, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Show a batch image by image: why each was chosen, and whether it is labelled."""
    batch, rows = read_batch(open_pool(), project, number)
    print_json(describe(batch, rows)) if as_json else show_rows(title_of(batch, rows), rows, note=batch.note)


def close(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Close the open batch before all of it is labelled: what is left is served by its uncertainty again."""
    end(project, "closed", as_json)


def undo(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Undo the open batch: tasks are served in the order before. Labels made in it stay, and keep its number."""
    end(project, "undone", as_json)


def export(
    number: NumberArgument = None,
    project: ProjectOption = None,
    out: Annotated[Path | None, typer.Option(help="File to write; left out: standard output.")] = None,
    form: Annotated[
        TableFormat | None, typer.Option("--format", help="csv or json; left out: what the file is called, else csv.")
    ] = None,
) -> None:
    """Write a batch as a table, one image a row, with all figures that it was chosen by."""
    batch, rows = read_batch(open_pool(), project, number)
    text = to_json(describe(batch, rows)) if form_of(out, form) == "json" else to_csv(batch, rows)
    if out is None:
        print(text, end="")
        return
    try:
        out.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise CommandError(f"{out} cannot be written: {error.strerror or error}") from error
    print(f"Batch {batch.number}: {len(rows)} images written to {out}.")


def end(project: str | None, state: Ended, as_json: bool) -> None:
    """End the open batch of a project."""
    pool = open_pool()
    chosen = pick_project(pool, project)
    with pool.write() as session:
        batch = find_batch(session, chosen.id)
        end_batch(session, batch, state, by=f"{who()} (batch command)")
        rows = members(session, batch)
    heard = tell_sync(chosen.ls_id)
    if as_json:
        with pool.read() as session:
            print_json(describe(find_batch(session, chosen.id, batch.number), rows, items=False))
        return
    count = count_states(rows)
    print(f"Batch {batch.number} is {state}: {count['labelled']} of {len(rows)} images are labelled.")
    print(f"Label Studio follows {'in a moment' if heard else 'when `maskloop up` runs'}.")


def read_batch(pool: Pool, project: str | None, number: int | None) -> tuple[Batch, list[Member]]:
    """A batch of the project that is meant, with its tasks."""
    chosen = pick_project(pool, project)
    with pool.read() as session:
        batch = find_batch(session, chosen.id, number)
        return batch, members(session, batch)
