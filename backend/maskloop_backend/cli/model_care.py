"""`maskloop models verify` and `prune`: whether models are what they were, and which may leave the store."""

from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console

from maskloop_backend.cli.chosen import pick_model
from maskloop_backend.cli.context import open_pool, pick_project, print_json
from maskloop_backend.cli.errors import CommandError
from maskloop_backend.cli.ranking import ProjectOption
from maskloop_backend.cli.weights import JsonOption, open_bases
from maskloop_learner.model.backbones import BackboneError, find_backbone
from maskloop_learner.model.header import read_meta
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Model, utcnow
from maskloop_learner.train import pruning
from maskloop_learner.train.verification import (
    Finding,
    blob_fault,
    layout_fault,
    models_of,
    repair_manifest,
    verify_model,
)

AnyModel = Annotated[str | None, typer.Argument(help="Number of a model or `champion`; left out: all.")]


def register(group: typer.Typer) -> None:
    """Add this module's commands to `maskloop models`."""
    group.command()(verify)
    group.command()(prune)


def verify(
    model: AnyModel = None,
    project: ProjectOption = None,
    repair: Annotated[bool, typer.Option(help="Write the manifests that earlier releases did not.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Read every model's files again and compare them with their digests; exit code 1 when something is wrong."""
    pool = open_pool()
    chosen = pick_project(pool, project)
    with pool.read() as session:
        models = models_of(session, chosen.id) if model is None else [pick_model(pool, chosen, model)]
    if repair:
        models = [_repaired(pool, each) for each in models]
    findings = [finding for each in models for finding in _verify(pool, each)]
    broken = any(finding.broken for finding in findings)
    if as_json:
        print_json({"whole": not broken, "models": len(models), "findings": [each.as_json() for each in findings]})
    else:
        console = Console(highlight=False, markup=False, soft_wrap=True)
        for each in findings:
            console.print(f"Model {each.model}, {each.part}: {each.what}\n  {each.fix}")
        told = f"{len(models)} models were read"
        console.print(f"{told}: something is wrong." if broken else f"{told}: all is what it was.")
    raise typer.Exit(1 if broken else 0)


def prune(
    keep: Annotated[int, typer.Option(min=0, help="How many of the newest models stay, beside those that are needed.")],
    older_than: Annotated[
        float | None, typer.Option(min=0, help="Only models made more than so many days ago.")
    ] = None,
    project: ProjectOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove the weights of old models. The champion, the one before and a model in shadow always stay."""
    pool = open_pool()
    chosen = pick_project(pool, project)
    before = utcnow() - timedelta(days=older_than) if older_than is not None else None
    with pool.read() as session:
        found = [model.id for model in pruning.prunable(session, chosen.id, keep=keep, before=before)]
    said = f"{len(found)} models: {', '.join(map(str, found))}" if found else "no model"
    if dry_run or not found:
        print_json({"pruned": [], "would": found}) if as_json else print(f"Nothing is changed; {said} would go.")
        return
    if not yes:
        if as_json:
            raise CommandError("with --json nobody can be asked: add --yes, or --dry-run to see what would go")
        typer.confirm(f"The weights of {said} go for good (figures and manifests stay). Go on?", abort=True)
    gone = pruning.prune(pool, chosen.id, found, by="prune command")
    files = sum(each.removed for each in gone)
    if as_json:
        print_json({"pruned": [each.model for each in gone], "files": files})
    else:
        print(f"{len(gone)} models are pruned, {files} files are gone.")


def _repaired(pool: Pool, model: Model) -> Model:
    lost = model.pruned_at is not None or blob_fault(pool.store, "weights", model.weights_digest) is not None
    if not lost and layout_fault(pool.store, model) is None:
        repair_manifest(pool, model.id)
    with pool.read() as session:
        return session.get_one(Model, model.id)


def _verify(pool: Pool, model: Model) -> list[Finding]:
    found = verify_model(pool, model)
    if model.pruned_at is not None or any(finding.part == "weights" for finding in found):
        return found
    return [*found, *_base(pool, model)]


def _base(pool: Pool, model: Model) -> list[Finding]:
    """Whether the frozen towers that the model stands on are here, and are what they were."""
    meta = read_meta(pool.store.get("weights", model.weights_digest))
    try:
        spec = find_backbone(model.backbone)
    except ValueError as error:
        fix = "Another release made it: upgrade Maskloop, or let another model serve."
        return [Finding(model=model.id, part="base", what=str(error), fix=fix)]
    base = str(meta.get("base", "random:0"))
    if spec.trains == "all" or base.startswith("random:"):
        return []
    from maskloop_learner.model.bases import load_towers

    try:
        load_towers(open_bases().find(spec, base))
    except BackboneError as error:
        fix = f"maskloop models fetch {spec.name} (on every machine with a worker)"
        return [Finding(model=model.id, part="base", what=str(error), fix=fix)]
    return []
