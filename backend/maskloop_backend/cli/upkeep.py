"""`maskloop backup`, `maskloop restore` and `maskloop clean`: what keeps an installation going for months."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from maskloop_backend.cli.context import print_json, start_logging
from maskloop_learner.settings import get_settings

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
NEXT = """\
Next:
  1. Set the same MASKLOOP_* settings as before. On another address: MASKLOOP_PUBLIC_URL, or host and port.
  2. `maskloop up`. Label Studio is compared in full: labels that are newer than the backup come back from there."""


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(backup)
    app.command()(restore)
    app.command()(clean)
    app.command()(alert_test)


def backup(
    target: Annotated[Path, typer.Argument(help="A folder, where the next backup copies only what is new, or X.tar.")],
    credentials: Annotated[
        bool, typer.Option(help="With the web password and Label Studio's tokens; files are for the owner only.")
    ] = True,
    with_backbones: Annotated[bool, typer.Option("--with-backbones", help="With the fetched backbones.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Back up database, images, masks, models and credentials, while everything runs."""
    from maskloop_backend.backup.saving import save

    settings = get_settings()
    start_logging(settings)
    with _bar() as bar:
        shown = bar.add_task("Copying", total=None)
        done = save(
            settings,
            target,
            credentials=credentials,
            backbones=with_backbones,
            on_progress=lambda number, of: bar.update(shown, completed=number, total=of),
        )
    for name in done.missing[:5]:
        _warn(f"the store has lost {name}, which the pool refers to")
    if len(done.missing) > 5:
        _warn(f"and {len(done.missing) - 5} more")
    if as_json:
        print_json(asdict(done))
        return
    kept = "with password and tokens: keep it as safe" if credentials else "without password and tokens"
    print(f"{done.path}: {done.blobs} blobs, {done.copied} of them new, {done.bytes / 1e6:.1f} MB written ({kept}).")


def restore(
    source: Annotated[Path, typer.Argument(help="What `maskloop backup` wrote.")],
    check: Annotated[bool, typer.Option("--check", help="Only read it all and compare every digest.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a backup into the empty home folder that MASKLOOP_HOME names, whole or not at all."""
    from maskloop_backend.backup.restoring import check as check_all
    from maskloop_backend.backup.restoring import restore as bring_back

    settings = get_settings()
    start_logging(settings)
    with _bar() as bar:
        shown = bar.add_task("Checking" if check else "Restoring", total=None)

        def progress(number: int, of: int) -> None:
            bar.update(shown, completed=number, total=of)

        if check:
            manifest = check_all(source, on_progress=progress)
        else:
            found = bring_back(source, settings, on_progress=progress)
            manifest = found.manifest
    figures = {"made_at": manifest.created_at, "release": manifest.release, "revision": manifest.revision}
    figures |= {"blobs": str(manifest.blob_count), "files": str(len(manifest.files))}
    for name in manifest.missing[:5]:
        _warn(f"{name} was lost before the backup was made")
    if as_json:
        print_json(figures | ({} if check else {"home": found.home, "credentials": found.credentials}))
        return
    print(f"Backup of {manifest.created_at}, Maskloop {manifest.release}: {manifest.blob_count} blobs, all whole.")
    if check:
        return
    print(f"It is restored to {found.home}.\n{NEXT}")
    if not found.credentials:
        for number, url in found.projects:
            print(f"     It has no tokens: maskloop connect --url {url} --project {number} --token ...")
    print("  3. `maskloop connect` for every project, when Maskloop's own address is another one than before.")


def clean(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove what nothing needs any more: old predictions, unreferenced blobs, ended trainings' checkpoints.

    `maskloop sync` does the same by itself, a little at a time; nothing that is referred to is ever removed.
    """
    from maskloop_backend.cli.context import open_pool
    from maskloop_learner.pool.garbage import SLICES, Swept, sweep_store
    from maskloop_learner.pool.retention import drop_old_predictions
    from maskloop_queue.leftovers import sweep_rounds

    pool, settings = open_pool(), get_settings()
    rows = drop_old_predictions(pool, days=settings.keep_predictions_days, dry_run=dry_run)
    checkpoints = sweep_rounds(pool, settings.home, dry_run=dry_run)
    swept = Swept()
    with _bar() as bar:
        for prefix in bar.track(SLICES, description="Looking through the store"):
            swept.add(sweep_store(pool, prefix=prefix, dry_run=dry_run))
            if swept.held:
                break
    if swept.held:
        _warn("a backup is being made: not all of the store was looked through; try again after it")
    if as_json:
        print_json({"predictions": rows, "checkpoints": checkpoints, "dry_run": dry_run, **asdict(swept)})
        return
    would = "would go" if dry_run else "are gone"
    print(f"{rows} predictions of versions that nobody needs {would}.")
    print(f"{swept.count} blobs that nothing refers to {would} ({swept.bytes / 1e6:.1f} MB).")
    print(f"{checkpoints} left-overs of trainings {would}.")


def alert_test(as_json: JsonOption = False) -> None:
    """Send a test alert to MASKLOOP_ALERT_URL and MASKLOOP_ALERT_COMMAND; exit code 0 only when all take it."""
    from maskloop_backend.alerts import Alert, AlertError, find_targets
    from maskloop_backend.cli.errors import CommandError

    targets = find_targets(get_settings())
    if not targets:
        raise CommandError("no alerts are set up; set MASKLOOP_ALERT_URL or MASKLOOP_ALERT_COMMAND")
    said: dict[str, str] = {}
    for target in targets:
        try:
            target.send(Alert("Maskloop: this is a test; alerts arrive.", "test", data={}))
            said[target.name] = "ok"
        except AlertError as error:
            said[target.name] = str(error)
    if as_json:
        print_json(said)
    else:
        for name, outcome in said.items():
            print(f"{name}: {outcome}")
    if set(said.values()) != {"ok"}:
        raise typer.Exit(1)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _warn(message: str) -> None:
    typer.echo(f"warning: {message}", err=True)
