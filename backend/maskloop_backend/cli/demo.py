"""`maskloop demo`: everything with a Label Studio of its own and a project to try."""

import os
import threading
import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.panel import Panel

from maskloop_backend.cli.context import start_logging
from maskloop_backend.cli.errors import EXPECTED, CommandError
from maskloop_backend.cli.projects import split_prompt
from maskloop_backend.demo.folder import DemoContent, brain_content, own_content
from maskloop_backend.demo.host import Account, find_label_studio, load_account
from maskloop_backend.demo.prepare import Ready, prepare
from maskloop_learner.settings import get_settings


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(demo)


def demo(
    images: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Folder of PNG or JPEG images to take instead.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Their masks: 0/255 PNG, one folder per label.")
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help='What to draw: "tumor in a breast ultrasound" or "Tumor=..."; repeatable.')
    ] = None,
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the browser when ready.")] = False,
) -> None:
    """Start everything with a Label Studio of its own and a project: brain MRI slices, or your own folder."""
    from maskloop_backend.services import run_services

    # Who tries the loop should not wonder why nothing happens after the tenth label.
    os.environ.setdefault("MASKLOOP_TRIGGER_QUIET", "5")
    # Ten labels at a time would keep its loop waiting for a person until there are 150.
    os.environ.setdefault("MASKLOOP_GATE_ALLOW_FEW", "1")
    settings = get_settings()
    start_logging(settings)
    folder = settings.home / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    content = _content(folder, images, masks, prompt or [])
    program, account = find_label_studio(settings), load_account(folder)
    stop = threading.Event()
    failed: list[str] = []

    def make_ready() -> None:
        try:
            ready = prepare(settings, content, account, stopped=stop.is_set)
        except EXPECTED as error:
            if not stop.is_set():
                failed.append(str(error))
                stop.set()
            return
        _announce(ready, content, account, few=settings.gate_allow_few)
        if browser:
            webbrowser.open(ready.address)

    preparing = threading.Thread(target=make_ready, name="demo", daemon=True)
    code = run_services(settings, label_studio=(program, account), started=preparing.start, stop=stop)
    stop.set()
    preparing.join(10)
    if failed:
        raise CommandError(failed[0])
    raise typer.Exit(code)


def _content(folder: Path, images: Path | None, masks: Path | None, prompts: list[str]) -> DemoContent:
    if images is None:
        if masks is not None or prompts:
            raise CommandError("--masks and --prompt belong to --images DIR, which is missing")
        return brain_content(folder)
    if not prompts:
        raise CommandError('say what to draw with --prompt, e.g. --prompt "Tumor=tumor in a breast ultrasound"')
    named = dict(split_prompt(text) if "=" in text else (text[:1].upper() + text[1:40], text) for text in prompts)
    return own_content(images, masks, named)


def _announce(ready: Ready, content: DemoContent, account: Account, *, few: bool) -> None:
    lines = [
        f"[bold]Ready[/bold] after {ready.seconds:.0f} s: {ready.tasks} tasks, {ready.predicted} masks drawn ahead.",
        "",
        f"Open      [link={ready.address}]{ready.address}[/link]",
        f"E-mail    {account.email}",
        f"Password  {account.password}",
        "",
        'Click "Label All Tasks": the mask is drawn, the most uncertain image comes first.',
        "Correct and submit ten of them, and the model retrains by itself.",
    ]
    if few:
        lines.append("So few images show little: mean Dice decides which model serves (MASKLOOP_GATE_ALLOW_FEW=1).")
    if not content.seeds:
        lines.append("There is no model yet: label ten images, then the first training starts.")
    Console().print(Panel("\n".join(lines), title="Maskloop demo", expand=False))
