"""`maskloop train --preview`: what a training would learn from, what would validate, why now, how long; no change."""

import hashlib
from collections import Counter
from statistics import median
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_backend.cli.context import print_json
from maskloop_backend.cli.errors import CommandError
from maskloop_backend.overview.next_training import look_ahead
from maskloop_backend.readiness import count
from maskloop_learner.pool.draft import Rules, draft_manifest, read_labels
from maskloop_learner.pool.looking import look_at_images
from maskloop_learner.pool.manifest import Item, Manifest, NoLabels, encode_manifest
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Model, Project, Round
from maskloop_learner.pool.snapshot import label_ids
from maskloop_learner.settings import Settings

COMPARED = 5
"""Trainings that the estimate is the median of, at most."""
SIDES = ("train", "validation")


def show_preview(pool: Pool, project: Project, settings: Settings, *, as_json: bool) -> None:
    """Print the preview of a project's next training."""
    found = preview(pool, project.id, settings)
    print_json(found) if as_json else _print(project, found)


def preview(pool: Pool, project_id: int, settings: Settings) -> dict[str, Any]:
    """The snapshot that would be frozen now, in figures; `digest` is the one that it would have.

    Raises CommandError when there is nothing to learn from. Changes neither the database nor the store.
    """
    try:
        read = read_labels(pool, project_id)
    except NoLabels as error:
        raise CommandError(str(error)) from error
    rules = Rules(share=settings.validation_share, merge=settings.merge_rule, near_duplicates=settings.near_duplicates)
    looks = look_at_images(pool, read.labels, write=False)
    manifest = draft_manifest(pool, read, looks, rules, keep=lambda data: hashlib.sha256(data).hexdigest())
    with pool.read() as session:
        ahead = look_ahead(session, session.get_one(Project, project_id), settings)
        seconds = _seconds_a_step(session, project_id, settings.backbone)
    return {
        "project": read.project.ls_id,
        "digest": hashlib.sha256(encode_manifest(manifest)).hexdigest(),
        "labels": {label: _count_label(manifest, label) for label in manifest["labels"]},
        "annotations": len(label_ids(manifest)),
        "annotators": dict(Counter(voice["author"] or "unknown" for i in manifest["items"] for voice in _voices(i))),
        "merge": settings.merge_rule,
        "merged": sum(len(_voices(item)) > 1 for item in manifest["items"]),
        "split": {side: _count_side([i for i in manifest["items"] if i["split"] == side]) for side in SIDES},
        "new": _news(manifest, read.before),
        "duplicates": manifest["duplicates"],
        "warnings": manifest["warnings"],
        "due": ahead.cause,
        "why": ahead.why,
        "steps": settings.train_steps,
        "seconds": None if seconds is None else round(seconds * settings.train_steps, 1),
    }


def _voices(item: Item) -> list[Any]:
    return list(item.get("annotations", ()))


def _count_label(manifest: Manifest, label: str) -> dict[str, int]:
    looked = [item for item in manifest["items"] if label in item.get("known", [label])]
    drawn = sum(label in item["masks"] for item in looked)
    return {"drawn": drawn, "empty": len(looked) - drawn, "unknown": len(manifest["items"]) - len(looked)}


def _count_side(items: list[Item]) -> dict[str, int]:
    blind = sum(item.get("blind", False) for item in items)
    return {"images": len(items), "groups": len({item["group"] for item in items}), "blind": blind}


def _news(manifest: Manifest, before: Manifest) -> dict[str, int]:
    """Images and annotations that the last snapshot did not have, and images that it had and that are gone."""
    old = {item["image"] for item in before["items"]}
    new = Counter(item["split"] for item in manifest["items"] if item["image"] not in old)
    changed = set(label_ids(manifest)) - set(label_ids(before))
    gone = old - {item["image"] for item in manifest["items"]}
    return {**{side: new[side] for side in SIDES}, "annotations": len(changed), "gone": len(gone)}


def _seconds_a_step(session: Session, project_id: int, backbone: str) -> float | None:
    """Median over the last trainings here that went through in one go, gate and calibration included."""
    statement = (
        select(Round)
        .join(Model, Model.id == Round.model_id)
        .where(Round.project_id == project_id, Round.attempts == 1, Model.backbone == backbone)
        .order_by(Round.id.desc())
        .limit(COMPARED)
    )
    found = [
        (row.ended_at - row.started_at).total_seconds() / row.progress["step"]
        for row in session.scalars(statement)
        if row.started_at and row.ended_at and row.progress.get("step")
    ]
    return median(found) if found else None


def _print(project: Project, found: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    table = Table(title=f"{escape(project.title)}: {count(found['annotations'], 'annotation')}")
    for name in ("label", "drawn on", "empty on", "unknown on"):
        table.add_column(name, justify="left" if name == "label" else "right")
    for label, figures in found["labels"].items():
        table.add_row(escape(label), *(str(figures[name]) for name in ("drawn", "empty", "unknown")))
    console.print(table)
    new = found["new"]
    lines = [f"By {', '.join(f'{author} ({number})' for author, number in found['annotators'].items())}."]
    if found["merged"]:
        lines.append(f"{count(found['merged'], 'image')} with several annotators, merged by {found['merge']}.")
    for side in SIDES:
        figures = found["split"][side]
        blind = f", {figures['blind']} blind" if figures["blind"] else ""
        groups = count(figures["groups"], "group")
        lines.append(f"{side}: {count(figures['images'], 'image')} of {groups} ({new[side]} new{blind}).")
    lines.append(f"Since the last snapshot: {count(new['annotations'], 'annotation')} new, {new['gone']} images gone.")
    lines += [f"Warning: {warning}." for warning in found["warnings"]]
    lines.append(f"Why now: {found['why']}.")
    steps = found["steps"]
    how_long = "unknown: no training has run here" if found["seconds"] is None else _duration(found["seconds"])
    lines.append(f"How long: {how_long} ({steps} steps at most).")
    for line in lines:
        console.print(line, markup=False)


def _duration(seconds: float) -> str:
    return f"about {seconds:.0f} s" if seconds < 120 else f"about {seconds / 60:.0f} minutes"
