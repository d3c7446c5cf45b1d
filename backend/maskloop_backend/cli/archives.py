"""`maskloop models export`, and `import` of what it wrote."""

from pathlib import Path
from typing import Annotated, Any

import typer

from maskloop_backend.cli.chosen import ModelArgument, pick_model
from maskloop_backend.cli.context import open_pool, pick_project, print_json
from maskloop_backend.cli.errors import CommandError
from maskloop_backend.cli.ranking import ProjectOption
from maskloop_backend.cli.weights import JsonOption, open_bases
from maskloop_learner.pool.events import record
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model, Project
from maskloop_learner.settings import get_settings
from maskloop_learner.train.archive import Archive, ArchiveError, read_archive, write_archive
from maskloop_learner.train.manifests import add_model, keep_weights
from maskloop_learner.train.registry import ensure_version, set_champion
from maskloop_learner.train.verification import models_of, repair_manifest


def register(group: typer.Typer) -> None:
    """Add this module's command to `maskloop models`; `import` is that of `checkpoints`."""
    group.command()(export)


def export(
    model: ModelArgument,
    out: Annotated[Path, typer.Option(help="A file that ends with .zip, or a new folder.")],
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a model with its manifest, a card and checksums, for another installation or the archive."""
    pool = open_pool()
    chosen = pick_project(pool, project)
    found = pick_model(pool, chosen, model)
    if found.pruned_at is not None:
        raise CommandError(f"model {found.id} was pruned: its weights are gone")
    digest = found.manifest_digest or repair_manifest(pool, found.id)
    weights = pool.store.get("weights", found.weights_digest)
    try:
        write_archive(out, weights=weights, manifest=pool.store.get("manifests", str(digest)))
    except ArchiveError as error:
        raise CommandError(str(error)) from error
    with pool.write() as session:
        record(session, "model.exported", project_id=chosen.id, subject=str(found.id), data={"out": out.name})
    told = {"model": found.id, "out": str(out), "weights": found.weights_digest, "manifest": digest}
    print_json(told) if as_json else print(f"Model {found.id} is in {out}.")


def import_archive(path: Path, *, project: str | None, promote: bool | None, as_json: bool) -> None:
    """Take an export into a project; one that is there already is made whole again."""
    if project is None:
        raise CommandError("say which project the model is for: --project PROJECT")
    pool = open_pool()
    chosen = pick_project(pool, project)
    try:
        archive = read_archive(path)
    except ArchiveError as error:
        raise CommandError(str(error)) from error
    labels = archive.manifest["labels"]
    if not set(labels) & set(chosen.control["labels"]):
        raise CommandError(
            f"the model draws {labels}, project {chosen.title!r} has {chosen.control['labels']}: no label is the same"
        )
    _try_to_load(archive.weights)
    told = _mend(pool, chosen.id, archive) or _add(pool, chosen.id, archive, path, promote=promote)
    if as_json:
        print_json(told)
        return
    serves = f", which the project serves as {told['version']}" if "version" in told else ""
    what = "is here already; its weights are whole" if told["known"] else f"is new here{serves}"
    print(f"Model {told['model']} {what}.")


def _try_to_load(weights: bytes) -> None:
    from maskloop_learner.model.checkpoint import CheckpointError, load_weights

    try:
        load_weights(weights, device="cpu", bases=open_bases())
    except CheckpointError as error:
        raise CommandError(str(error)) from error


def _mend(pool: Pool, project_id: int, archive: Archive) -> dict[str, Any] | None:
    digest = archive.manifest["weights"]["digest"]
    with pool.read() as session:
        known = [model.id for model in models_of(session, project_id) if model.weights_digest == digest]
    if not known:
        return None
    # Putting a blob that was altered mends it.
    pool.store.put("weights", archive.weights)
    with pool.write() as session:
        for model in (session.get_one(Model, number) for number in known):
            if model.pruned_at is not None or model.fault is not None:
                model.pruned_at = model.fault = None
                record(session, "model.mended", project_id=project_id, subject=str(model.id), data={"model": model.id})
    return {"model": known[0], "known": True, "weights": digest}


def _add(pool: Pool, project_id: int, archive: Archive, path: Path, *, promote: bool | None) -> dict[str, Any]:
    kept, origin = keep_weights(pool.store, archive.weights), archive.manifest
    source = {"source": path.name, "source_revision": None, "source_sha256": kept.digest, "base": kept.base}
    config = {key: value for key, value in origin["config"].items() if key != "imported"}
    with pool.write() as session:
        model = add_model(
            session,
            pool.store,
            project_id=project_id,
            weights=kept,
            labels=origin["labels"],
            made_by="import command",
            config={**config, "imported": source},
            metrics={"imported": origin["metrics"]},
            origin=origin,
        )
        told: dict[str, Any] = {"model": model.id, "known": False, "weights": kept.digest}
        champion = session.get(Champion, project_id)
        if champion is None if promote is None else promote:
            project = session.get_one(Project, project_id)
            told["version"] = ensure_version(session, project, model, get_settings())
            set_champion(
                session,
                project_id=project_id,
                model_id=model.id,
                version_id=told["version"],
                fence=champion.fence if champion else 0,
                by="import command",
            )
    return told
