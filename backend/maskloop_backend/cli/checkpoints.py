"""`maskloop models import` and `pull`: models made elsewhere, brought into a project or a file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from maskloop_backend.cli import archives
from maskloop_backend.cli.context import open_pool, pick_project, print_json
from maskloop_backend.cli.errors import CommandError
from maskloop_backend.cli.ranking import ProjectOption
from maskloop_backend.cli.weights import JsonOption, find_published, open_bases, warn_of_vocabulary
from maskloop_learner.model.backbones import PAPER_REPO, BackboneSpec
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Project
from maskloop_learner.prompts.rules import default_prompts
from maskloop_learner.settings import Settings, get_settings
from maskloop_learner.train.archive import is_archive
from maskloop_learner.train.manifests import add_model, keep_weights
from maskloop_learner.train.registry import ensure_version, set_champion

OutOption = Annotated[Path | None, typer.Option(help="Weights file (safetensors) to write.")]
LabelOption = Annotated[list[str] | None, typer.Option("--label", help="A label; the project's when left out.")]
PromptOption = Annotated[list[str] | None, typer.Option("--prompt", help="The prompt of the label in the same place.")]
PromoteOption = Annotated[
    bool | None,
    typer.Option(
        "--promote/--no-promote", help="Let the project serve it from now on; left out: if it serves no model yet."
    ),
]


def register(group: typer.Typer) -> None:
    """Add this module's commands to `maskloop models`."""
    group.command("import")(import_checkpoint)
    group.command()(pull)


def import_checkpoint(
    path: Annotated[
        str, typer.Argument(help="A released .pth, OWNER/REPO/FILE on the hub, medclipseg/DATASET, or an export.")
    ],
    backbone: Annotated[str | None, typer.Option(help="Its backbone; read off the file's name when left out.")] = None,
    out: OutOption = None,
    label: LabelOption = None,
    prompt: PromptOption = None,
    project: ProjectOption = None,
    promote: PromoteOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take over a released MedCLIPSeg checkpoint: to a weights file (--out), or as a model of a project (--project).

    Or take in what `maskloop models export` wrote.
    """
    from maskloop_learner.model.hub import fetched, released_file

    if is_archive(Path(path)):
        if backbone or out or label or prompt:
            raise CommandError("an export says its backbone, labels and prompts itself: give only --project")
        archives.import_archive(Path(path), project=project, promote=promote, as_json=as_json)
        return
    spec = find_published(backbone) if backbone else None
    target = _Target(out=out, project=project, promote=promote, as_json=as_json, labels=label, prompts=prompt)
    if Path(path).is_file():
        target.take(Path(path), spec, source=path, revision=None)
        return
    owner, _, rest = path.partition("/")
    name, _, file = rest.partition("/")
    if owner.lower() == "medclipseg" and not file:
        repo, file = PAPER_REPO, released_file(path)
    elif file:
        repo = f"{owner}/{name}"
    else:
        raise CommandError(f"there is no file {path!r}, and a file on the hub is named OWNER/REPO/FILE")
    with fetched(repo, file, folder=get_settings().bases_folder / "downloads") as found:
        named = spec or _spec_of(file)
        target.take(found.path, named, source=f"{repo}/{file}", revision=found.revision)


def pull(
    name: Annotated[str, typer.Argument(help="medclipseg/DATASET, such as medclipseg/busi.")],
    percent: Annotated[int, typer.Option(help="Share of the training images it saw: 10, 25, 50 or 100.")] = 100,
    out: OutOption = None,
    label: LabelOption = None,
    prompt: PromptOption = None,
    project: ProjectOption = None,
    promote: PromoteOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch one of the released MedCLIPSeg checkpoints from the hub and take it over, as `import` does."""
    from maskloop_learner.model.hub import fetched, released_file

    file = released_file(name, percent)
    target = _Target(out=out, project=project, promote=promote, as_json=as_json, labels=label, prompts=prompt)
    with fetched(PAPER_REPO, file, folder=get_settings().bases_folder / "downloads") as found:
        target.take(found.path, _spec_of(file), source=f"{PAPER_REPO}/{file}", revision=found.revision)


class _Target:
    """Where an imported checkpoint goes; checked before anything is fetched or read."""

    def __init__(
        self,
        *,
        out: Path | None,
        project: str | None,
        promote: bool | None,
        as_json: bool,
        labels: list[str] | None,
        prompts: list[str] | None,
    ) -> None:
        if out is None and project is None:
            raise CommandError("say where the model goes: --out FILE, --project PROJECT, or both")
        if promote and project is None:
            raise CommandError("--promote needs --project: the project that is to serve the model")
        if len(labels or []) != len(prompts or []):
            raise CommandError(f"every --label needs its --prompt: got {len(labels or [])} and {len(prompts or [])}")
        self.out, self.promote, self.as_json = out, promote, as_json
        self.prompts: dict[str, str] = dict(zip(labels or [], prompts or [], strict=True))
        self.pool: Pool | None = open_pool() if project is not None else None
        self.project: Project | None = pick_project(self.pool, project) if self.pool else None
        if self.project is not None:
            known = default_prompts(self.project.control["labels"], self.project.prompts)
            unknown = sorted(self.prompts.keys() - known.keys())
            if unknown:
                raise CommandError(f"project {self.project.title!r} has no label {unknown[0]!r}: it has {list(known)}")
            self.prompts = self.prompts or known
        if not self.prompts:
            raise CommandError("name what the model draws: --label LABEL --prompt PROMPT, once per label")

    def take(self, path: Path, spec: BackboneSpec | None, *, source: str, revision: str | None) -> None:
        """Convert the checkpoint and put it where it goes; say so."""
        from maskloop_learner.model.checkpoint import CheckpointError
        from maskloop_learner.model.files import write_whole
        from maskloop_learner.model.official import convert, read_released

        settings = get_settings()
        bases = open_bases()
        try:
            released = read_released(path, spec)
        except CheckpointError as error:
            raise CommandError(str(error)) from error
        made = convert(
            released,
            bases=bases,
            labels=list(self.prompts),
            prompts=self.prompts,
            source=source,
            revision=revision,
        )
        told: dict[str, Any] = dict(made.manifest)
        if self.out is not None:
            write_whole(Path(os.path.abspath(self.out)), lambda part: part.write_bytes(made.weights))
            told["out"] = str(self.out)
        if self.pool is not None and self.project is not None:
            told |= register_model(
                self.pool,
                self.project.id,
                settings,
                weights=made.weights,
                manifest=made.manifest,
                promote=self.promote,
            )
        warn_of_vocabulary(released.spec, bases)
        if self.as_json:
            print_json(told)
            return
        if self.out is not None:
            print(f"{source} is now the weights file {self.out} (backbone {released.spec.name}).")
        if "model" in told:
            serves = f", which the project serves as {told['version']}" if "version" in told else ""
            print(f"{source} is now model {told['model']}{serves}.")


def register_model(
    pool: Pool,
    project_id: int,
    settings: Settings,
    *,
    weights: bytes,
    manifest: Mapping[str, Any],
    promote: bool | None,
) -> dict[str, Any]:
    """Add converted weights as a model of the project; returns its id, and the version that is served if promoted.

    `promote` None: only where the project serves no model yet. Raises ChampionConflict when another champion was
    chosen at the same time.
    """
    kept = keep_weights(pool.store, weights)
    imported = {key: manifest[key] for key in ("source", "source_revision", "source_sha256", "base")}
    with pool.write() as session:
        model = add_model(
            session,
            pool.store,
            project_id=project_id,
            weights=kept,
            labels=list(manifest["labels"]),
            made_by="import command",
            config={"imported": imported},
            metrics={"imported": dict(manifest["metrics"])},
        )
        told: dict[str, Any] = {"model": model.id, "weights": kept.digest}
        champion = session.get(Champion, project_id)
        if champion is None if promote is None else promote:
            project = session.get_one(Project, project_id)
            told["version"] = ensure_version(session, project, model, settings)
            set_champion(
                session,
                project_id=project_id,
                model_id=model.id,
                version_id=told["version"],
                fence=champion.fence if champion else 0,
                by="import command",
            )
    return told


def _spec_of(file: str) -> BackboneSpec:
    from maskloop_learner.model.checkpoint import CheckpointError
    from maskloop_learner.model.official import name_backbone

    try:
        return name_backbone(file)
    except CheckpointError as error:
        raise CommandError(str(error)) from error
