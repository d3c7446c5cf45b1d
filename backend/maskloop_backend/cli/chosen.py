"""The model that a command is about."""

from typing import Annotated

import typer

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model, Project
from maskloop_learner.train.registry import ModelUnusable, find_model

ModelArgument = Annotated[str, typer.Argument(help="Number of the model, see `maskloop models list`, or `champion`.")]


def pick_model(pool: Pool, project: Project, wanted: str) -> Model:
    """The project's model of this number. Raises ModelUnusable for another word or number."""
    with pool.read() as session:
        champion = session.get(Champion, project.id)
        if wanted == "champion":
            if champion is None:
                raise ModelUnusable(f"project {project.title!r} has no champion yet; run `maskloop train` first")
            return find_model(session, project.id, champion.model_id)
        if not wanted.isdecimal() or len(wanted) > 9:
            raise ModelUnusable(f"a model is named by its number or `champion`, got {wanted!r}; see `maskloop models`")
        return find_model(session, project.id, int(wanted))
