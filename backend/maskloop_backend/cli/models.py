"""`maskloop train`, and the commands of `maskloop models`."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from maskloop_backend.cli import (
    archives,
    checkpoints,
    model_care,
    model_list,
    model_serving,
    model_show,
    shadow,
    weights,
)
from maskloop_backend.cli.cancelling import goes_on_without_us, report_cancel
from maskloop_backend.cli.context import open_pool, pick_project, print_json
from maskloop_backend.cli.errors import CommandError
from maskloop_backend.cli.preview import show_preview
from maskloop_backend.cli.ranking import ProjectOption
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model, Project, Round, TrainRequest
from maskloop_learner.prompts.rules import default_prompts
from maskloop_learner.settings import Settings, get_settings

ENDED = ("promoted", "shadow", "rejected", "failed", "cancelled")
START_PATIENCE = 120.0
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(train)
    group = typer.Typer()
    for module in (model_list, model_show, model_care, archives, weights, checkpoints, shadow):
        module.register(group)
    model_serving.register(app, group)
    app.add_typer(group, name="models")


def train(
    project: ProjectOption = None,
    wait: Annotated[bool, typer.Option(help="Show the progress until the training has ended.")] = True,
    cancel: Annotated[bool, typer.Option("--cancel", help="End the training that is queued or runs.")] = False,
    preview: Annotated[
        bool,
        typer.Option("--preview", help="Only show which labels, which split, why now and how long; change nothing."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train on all labels so far, now. `maskloop up` must run: its training worker does the work."""
    from maskloop_queue.connection import connect
    from maskloop_queue.triggers import request_training
    from maskloop_queue.wake import wake

    pool, settings = open_pool(), get_settings()
    chosen = pick_project(pool, project)
    if cancel:
        report_cancel(pool, settings, chosen, as_json=as_json)
        return
    if preview:
        show_preview(pool, chosen, settings, as_json=as_json)
        return
    request_id = request_training(pool, chosen.id, cause="cli")
    wake(connect(settings), chosen.ls_id)
    if not wait:
        print_json({"request": request_id}) if as_json else print(f"Training is requested (request {request_id}).")
        return
    with goes_on_without_us():
        ended = _follow(pool, _round_of(pool, request_id))
    figures = {"round": ended.id, "state": ended.state, "reason": ended.reason, "model": ended.model_id}
    print_json(figures) if as_json else print(f"Round {ended.id} is {ended.state}: {ended.reason}")
    if ended.state in ("failed", "cancelled"):
        raise typer.Exit(1)


def evaluate_folder(
    pool: Pool,
    settings: Settings,
    project: Project,
    *,
    images: Path,
    masks: Path,
    names: list[str],
    model_id: int | None = None,
) -> dict[str, float]:
    """Mean Dice per label, 0..1, of a model (default: the champion) on images and masks of the same file names."""
    from maskloop_learner.model.bases import Bases
    from maskloop_learner.pool.images import open_image
    from maskloop_learner.pool.masks import decode_mask
    from maskloop_learner.predict.predictor import Predictor
    from maskloop_learner.train.evaluation import evaluate as mean_dice
    from maskloop_learner.train.loop import Example

    if not names:
        raise CommandError(f"there is no image to evaluate on in {images}")
    with pool.read() as session:
        champion = session.get(Champion, project.id)
        if model_id is None and champion is None:
            raise CommandError("this project has no model yet; run `maskloop train` first")
        chosen = session.get(Model, model_id if model_id is not None else champion.model_id if champion else 0)
    if chosen is None or chosen.project_id != project.id:
        raise CommandError(f"project {project.ls_id} has no model {model_id}; see `maskloop models`")
    examples = []
    for name in names:
        truth = {label: (masks / label / name) for label in chosen.labels}
        missing = [str(path) for path in truth.values() if not path.exists()]
        if missing:
            raise CommandError(f"the mask {missing[0]} is missing; every image needs one per label")
        found = {label: decode_mask(path.read_bytes()) for label, path in truth.items()}
        examples.append(Example(image=open_image((images / name).read_bytes()), masks=found, name=name))
    predictor = Predictor(
        weights=pool.store.get("weights", chosen.weights_digest),
        device=settings.device,
        bases=Bases(settings.bases_folder),
        precision=settings.precision,
    )
    return mean_dice(
        predictor,
        examples,
        default_prompts(chosen.labels, project.prompts),
        samples=settings.samples,
        threshold=settings.threshold,
        min_speck_area=settings.min_speck_area,
        max_hole_area=settings.max_hole_area,
    )


def _round_of(pool: Pool, request_id: int) -> int:
    end = time.monotonic() + START_PATIENCE
    while time.monotonic() < end:
        with pool.read() as session:
            request = session.get_one(TrainRequest, request_id)
        if request.refused:
            raise CommandError(f"no training: {request.refused}")
        if request.round_id is not None:
            return request.round_id
        time.sleep(0.5)
    raise CommandError(
        f"nothing answered request {request_id} in {START_PATIENCE:.0f} s: a training that runs already goes first, "
        "or `maskloop up` is not running (see `maskloop doctor`); the request is kept"
    )


def _follow(pool: Pool, round_id: int) -> Round:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        shown = bar.add_task(f"Round {round_id}", total=None, loss="-")
        while True:
            with pool.read() as session:
                row = session.get_one(Round, round_id)
            state = row.progress
            if state:
                bar.update(shown, total=state["steps"], completed=state["step"], loss=f"{state['loss']:.4f}")
            bar.update(shown, description=f"Round {round_id} {row.state}")
            if row.state in ENDED:
                return row
            if row.failures and row.retry_at is not None and row.state == "queued":
                raise CommandError(
                    f"round {round_id} failed ({row.reason}) and is tried again at {row.retry_at:%H:%M} UTC"
                )
            time.sleep(0.5)
