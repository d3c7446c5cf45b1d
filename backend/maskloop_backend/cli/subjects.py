"""The model that a command is about: a project's, or that of a weights file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskloop_backend.cli.context import open_pool, pick_project
from maskloop_backend.cli.errors import CommandError
from maskloop_learner.prompts.rules import default_prompts


@dataclass(frozen=True)
class Subject:
    """Weights, with the prompts of the labels that they were trained on."""

    weights: bytes
    labels: dict[str, str]
    about: dict[str, Any]
    """Where they are from, for reports."""
    temperature: float = 1.0
    """By which logits are divided."""


def find_subject(project: str | None, model: int | None, weights: Path | None) -> Subject:
    """The model that the options mean; without --weights the pool is opened. Raises CommandError."""
    if weights is None:
        return _from_project(project, model)
    if project is not None or model is not None:
        raise CommandError("--weights names the model already; leave --project and --model out")
    from maskloop_backend.cli.datasets import plain_errors
    from maskloop_learner.evaluate.model import read_labels

    data = weights.read_bytes()
    with plain_errors():
        return Subject(data, read_labels(data), {"weights": str(weights)})


def pick_label(subject: Subject, wanted: str | None) -> str:
    """The label that a data set's masks are of: the wanted one, or the model's only one. Raises CommandError."""
    if wanted is not None:
        return wanted
    if len(subject.labels) == 1:
        return next(iter(subject.labels))
    listed = ", ".join(subject.labels) or "none"
    raise CommandError(f"say with --label what the data set's masks are of; the model was trained on: {listed}")


def read_prompts(given: Sequence[str]) -> dict[str, str]:
    """`Label=text` by label. Raises CommandError for one of another form."""
    found = {}
    for each in given:
        label, _, text = each.partition("=")
        if not label.strip() or not text.strip():
            raise CommandError(f'--prompt must look like "Tumor=tumor in a breast ultrasound", got {each!r}')
        found[label.strip()] = text.strip()
    return found


def _from_project(wanted: str | None, model_id: int | None) -> Subject:
    from maskloop_learner.pool.schema import Champion, Model

    pool = open_pool()
    project = pick_project(pool, wanted)
    with pool.read() as session:
        champion = session.get(Champion, project.id)
        if model_id is None and champion is None:
            raise CommandError("this project has no model yet; run `maskloop train` first")
        model = session.get(Model, model_id if model_id is not None else champion.model_id if champion else 0)
    if model is None or model.project_id != project.id:
        raise CommandError(f"project {project.ls_id} has no model {model_id}; see `maskloop models`")
    return Subject(
        pool.store.get("weights", model.weights_digest),
        default_prompts(model.labels, project.prompts),
        {"project": project.ls_id, "model": model.id},
        float(model.config.get("temperature", 1.0)),
    )
