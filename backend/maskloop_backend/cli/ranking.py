"""`maskloop score` and `maskloop rank`: the pool's images from the shell."""

import json
import time
from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from maskloop_backend.cli.context import open_pool, pick_project, print_json
from maskloop_backend.cli.errors import CommandError
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import Ranked, answers, current_version, ranking, unscored
from maskloop_learner.pool.schema import Prediction, Score, Task
from maskloop_learner.pool.serving import SERVING, Served, serving_order
from maskloop_learner.settings import get_settings

DEFAULT_SCORE = "predictive_entropy/mean"
ProjectOption = Annotated[str | None, typer.Option("--project", help="Label Studio id or title of the project.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(score)
    app.command()(rank)


def score(
    project: ProjectOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """Predict every image that the current model has not predicted yet, in this process."""
    from maskloop_queue.processes import set_threads
    from maskloop_queue.scoring import Predictors
    from maskloop_queue.scoring import score as score_image

    pool, settings = open_pool(), get_settings()
    chosen = pick_project(pool, project)
    with pool.read() as session:
        version = _version(session, chosen.id)
        todo = list(unscored(session, chosen.id, version, limit=10_000_000))
    set_threads(settings.gpu_threads)
    predictors = Predictors.of(settings)
    columns = (TextColumn("Scoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    started, made = time.perf_counter(), 0
    with Progress(*columns, console=Console(stderr=True)) as progress:
        for question in progress.track(todo):
            made += score_image(pool, predictors, version, *question, keep_maps=settings.keep_maps)
    failed = _failed(pool, version)
    seconds = time.perf_counter() - started
    if as_json:
        print_json({"version": version, "scored": made, "seconds": round(seconds, 3), "failed": failed})
    else:
        print(f"{made} images scored with {version} in {seconds:.1f} s, {len(failed)} could not be read.")


def rank(
    project: ProjectOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many images to show.")] = 20,
    by: Annotated[
        str,
        typer.Option(
            help="`serving`, the order in which Label Studio serves, or a score to order by, measure/aggregation, "
            "e.g. mutual_information/patch_max."
        ),
    ] = SERVING,
    as_json: Annotated[bool, typer.Option("--json", help="Print all, as JSON for a script.")] = False,
) -> None:
    """List the unlabelled images in the order in which they are served: the open batch, then the most uncertain first.

    Outside a batch Label Studio serves by predictive_entropy/mean, 0..1. Measures: predictive_entropy,
    expected_entropy, mutual_information, variance; aggregations: mean, foreground_band, patch_max, top_q,
    boundary_norm.
    """
    pool = open_pool()
    chosen = pick_project(pool, project)
    with pool.read() as session:
        if by == SERVING:
            rows = serving_order(session, chosen.id, current_version(session, chosen.id))
            # Before the first model an open batch alone has an order.
            version = current_version(session, chosen.id) if rows else _version(session, chosen.id)
        else:
            version = _version(session, chosen.id)
            ranked = order_by(ranking(session, chosen.id, version), by)
            rows = [Served(row.task_id, row.ls_id, row.url, row.uncertainty) for row in ranked]
        by_label = _entropies(session, version, [row.task_id for row in rows])
        waiting = len(unscored(session, chosen.id, version, limit=10_000_000)) if version is not None else 0
    if as_json:
        items: list[dict[str, Any]] = [
            {
                "rank": n,
                "task": row.ls_id,
                "image": row.url,
                "uncertainty": row.uncertainty,
                "batch_place": row.place,
                **by_label[row.task_id],
            }
            for n, row in enumerate(rows, 1)
        ]
        print(json.dumps({"version": version, "by": by, "unscored": waiting, "ranking": items}, indent=2))
        return
    order = "as they are served" if by == SERVING else f"by {by}"
    table = Table(title=f"{escape(chosen.title)}: {len(rows)} unlabelled images under {version or 'no model'}, {order}")
    for name in ("rank", "task", "image", "uncertainty", "per label"):
        table.add_column(name, justify="right" if name in ("rank", "task", "uncertainty") else "left")
    for n, row in enumerate(rows[:limit], 1):
        labels = ", ".join(f"{label} {value:.4f}" for label, value in by_label[row.task_id]["labels"].items())
        value = "" if row.uncertainty is None else f"{row.uncertainty:.4f}"
        table.add_row(str(n), str(row.ls_id), escape(row.url.rsplit("/", 1)[-1]), value, escape(labels))
    Console().print(table)
    if waiting:
        print(f"{waiting} images are not scored yet.")


def order_by(rows: list[Ranked], by: str) -> list[Ranked]:
    """The rows by another of their scores, the largest over the labels, which becomes their uncertainty.

    Raises CommandError for a score that there is not, or that was not kept when the images were predicted.
    """
    if by == DEFAULT_SCORE:
        return rows
    if any(not row.aggregates for row in rows):
        raise CommandError(
            "some images were predicted by an earlier release, which kept the mean only; train once more"
        )
    measure, _, aggregation = by.partition("/")
    for row in rows[:1]:
        kept = next(iter(row.aggregates.values()))
        if aggregation not in kept.get(measure, {}):
            ways = "|".join(next(iter(kept.values())))
            raise CommandError(f"--by must be {'|'.join(kept)}, a slash, and {ways}; got {by!r}")
    found = [
        replace(row, uncertainty=max(each[measure][aggregation] for each in row.aggregates.values())) for row in rows
    ]
    if found and not any(row.uncertainty for row in found):
        raise CommandError(
            f"{by} is 0 for every image: this model ranks by a single pass, which knows predictive_entropy only; "
            "set MASKLOOP_CHEAP_RANKING=false to rank with all samples"
        )
    return sorted(found, key=lambda row: (-row.uncertainty, row.ls_id))


def _version(session: Session, project_id: int) -> str:
    version = current_version(session, project_id)
    if version is None:
        raise CommandError("this project has no model yet; label some images, then run `maskloop train`")
    return version


def _entropies(session: Session, version: str | None, task_ids: list[int]) -> dict[int, dict[str, dict[str, float]]]:
    found: dict[int, dict[str, dict[str, float]]] = {task_id: {"labels": {}} for task_id in task_ids}
    statement = (
        select(Task.id, Score.label, Score.predictive_entropy)
        .join(Prediction, answers(Prediction, version or ""))
        .join(Score, Score.prediction_id == Prediction.id)
        .order_by(Score.label)
    )
    for task_id, label, entropy in session.execute(statement):
        if task_id in found:
            found[task_id]["labels"][label] = entropy
    return found


def _failed(pool: Pool, version: str) -> list[dict[str, str | None]]:
    with pool.read() as session:
        statement = (
            select(func.min(Task.url), Prediction.error)
            .join(Prediction, answers(Prediction, version))
            .where(Prediction.error.is_not(None))
            .group_by(Prediction.id)
        )
        return [{"image": url, "reason": reason} for url, reason in session.execute(statement)]
