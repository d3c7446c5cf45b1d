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


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _warn(message: str) -> None:
    typer.echo(f"warning: {message}", err=True)
