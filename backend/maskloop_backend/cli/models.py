"""`maskloop train`, `maskloop models` and `maskloop rollback`."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from sqlalchemy import select

from maskloop_backend.cli import weights
from maskloop_backend.cli.context import open_pool, pick_project, print_json
from maskloop_backend.cli.errors import CommandError
from maskloop_backend.cli.preview import show_preview
from maskloop_backend.cli.ranking import ProjectOption
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model, Project, Round, TrainRequest
from maskloop_learner.prompts.rules import default_prompts
from maskloop_learner.settings import Settings, get_settings

ENDED = ("promoted", "rejected", "failed", "cancelled")
START_PATIENCE = 120.0
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(train)
    group = typer.Typer()
    group.callback(invoke_without_command=True)(models)
    weights.register(group)
    app.add_typer(group, name="models")
    app.command()(rollback)


def train(
    project: ProjectOption = None,
    wait: Annotated[bool, typer.Option(help="Show the progress until the training has ended.")] = True,
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
    if preview:
        show_preview(pool, chosen, settings, as_json=as_json)
        return
    request_id = request_training(pool, chosen.id, cause="cli")
    wake(connect(settings), chosen.ls_id)
    if not wait:
        print_json({"request": request_id}) if as_json else print(f"Training is requested (request {request_id}).")
        return
    ended = _follow(pool, _round_of(pool, request_id))
    figures = {"round": ended.id, "state": ended.state, "reason": ended.reason, "model": ended.model_id}
    print_json(figures) if as_json else print(f"Round {ended.id} is {ended.state}: {ended.reason}")
    if ended.state in ("failed", "cancelled"):
        raise typer.Exit(1)


def models(ctx: typer.Context, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """List the trained models with their validation Dice; the champion is marked. Subcommands bring weights in."""
    if ctx.invoked_subcommand is not None:
        return
    pool = open_pool()
    chosen = pick_project(pool, project)
    with pool.read() as session:
        champion = session.get(Champion, chosen.id)
        statement = select(Model, Round).outerjoin(Round, Round.model_id == Model.id)
        rows = session.execute(statement.where(Model.project_id == chosen.id).order_by(Model.id)).all()
    items: list[dict[str, Any]] = [
        {
            "model": model.id,
            "champion": champion is not None and champion.model_id == model.id,
            "version": champion.version_id if champion is not None and champion.model_id == model.id else None,
            "round": ended.id if ended else None,
            "state": ended.state if ended else None,
            "reason": ended.reason if ended else None,
            "dice": {label: side["challenger"] for label, side in model.metrics.get("validation", {}).items()},
            "temperature": model.metrics.get("temperature"),
            "calibration": model.metrics.get("calibration", {}),
            "ranking": model.metrics.get("sampling"),
            "weights": model.weights_digest,
            "created_at": model.created_at.isoformat(),
        }
        for model, ended in rows
    ]
    if as_json:
        print_json(items)
        return
    table = Table(title=f"{chosen.title}: {len(items)} models")
    for name in ("model", "round", "outcome", "validation Dice", "ECE", "ranks by", "made", ""):
        table.add_column(name)
    for item in items:
        dice = ", ".join(f"{label} {value:.3f}" for label, value in item["dice"].items())
        ece = ", ".join(f"{report['ece']:.3f}" for report in item["calibration"].values())
        way = item["ranking"] or {}
        ranks = f"{way['method']}/{way['samples']}" if way else ""
        mark = "champion" if item["champion"] else ""
        table.add_row(
            str(item["model"]), str(item["round"]), item["state"], dice, ece, ranks, item["created_at"][:16], mark
        )
    Console().print(table)


def rollback(project: ProjectOption = None) -> None:
    """Serve the previous champion again, until new labels bring a better one."""
    from maskloop_learner.train.registry import roll_back

    pool, settings = open_pool(), get_settings()
    chosen = pick_project(pool, project)
    with pool.write() as session:
        version = roll_back(session, session.get_one(Project, chosen.id), settings, by="rollback command")
    print(f"{version} is served again as soon as `maskloop up` has told Label Studio (seconds).")


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
