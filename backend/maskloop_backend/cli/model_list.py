"""`maskloop models list`: a project's models with their figures."""

from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import select

from maskloop_backend.cli.context import open_pool, pick_project, print_json
from maskloop_backend.cli.ranking import ProjectOption
from maskloop_backend.cli.weights import JsonOption
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model, Round
from maskloop_learner.train.dossier import standing


def register(group: typer.Typer) -> None:
    """Make this the command of `maskloop models` alone, and `maskloop models list`."""
    group.callback(invoke_without_command=True)(models)
    group.command("list")(list_models)


def models(ctx: typer.Context, project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Models: list, show, compare, promote, roll back, verify, prune, export, and bring weights in."""
    if ctx.invoked_subcommand is None:
        list_models(project, as_json)


def list_models(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """List the trained models with their validation Dice; the champion is marked."""
    pool = open_pool()
    chosen = pick_project(pool, project)
    items = read_models(pool, chosen.id)
    if as_json:
        print_json(items)
        return
    table = Table(title=f"{escape(chosen.title)}: {len(items)} models")
    for name in ("model", "round", "outcome", "validation Dice", "ECE", "ranks by", "made"):
        table.add_column(name)
    table.add_column("", no_wrap=True)
    for item in items:
        dice = ", ".join(f"{label} {value:.3f}" for label, value in item["dice"].items())
        ece = ", ".join(f"{report['ece']:.3f}" for report in item["calibration"].values())
        way = item["ranking"] or {}
        ranks = f"{way['method']}/{way['samples']}" if way else ""
        origin = str(item["round"] or item["made_by"])
        table.add_row(
            str(item["model"]), origin, item["state"], dice, ece, ranks, item["created_at"][:16], ", ".join(item["is"])
        )
    Console().print(table)


def read_models(pool: Pool, project_id: int) -> list[dict[str, Any]]:
    """All models of a project, the oldest first, as plain data."""
    with pool.read() as session:
        champion = session.get(Champion, project_id)
        statement = select(Model, Round).outerjoin(Round, Round.model_id == Model.id)
        rows = session.execute(statement.where(Model.project_id == project_id).order_by(Model.id)).all()
    return [
        {
            "model": model.id,
            "champion": champion is not None and champion.model_id == model.id,
            "is": standing(model, champion),
            "version": champion.version_id if champion is not None and champion.model_id == model.id else None,
            "round": ended.id if ended else None,
            "made_by": "import" if "imported" in model.config else None,
            "state": ended.state if ended else None,
            "reason": ended.reason if ended else None,
            "dice": {label: side["challenger"] for label, side in model.metrics.get("validation", {}).items()},
            "temperature": model.metrics.get("temperature"),
            "calibration": model.metrics.get("calibration", {}),
            "ranking": model.metrics.get("sampling"),
            "weights": model.weights_digest,
            "manifest": model.manifest_digest,
            "fault": model.fault,
            "pruned_at": model.pruned_at.isoformat() if model.pruned_at else None,
            "created_at": model.created_at.isoformat(),
        }
        for model, ended in rows
    ]
