"""Which model serves, by a person's word: one way, whether it is typed or pressed."""

from dataclasses import dataclass

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model, Project
from maskloop_learner.settings import Settings
from maskloop_learner.train import registry
from maskloop_learner.train.registry import ChampionConflict, ModelUnusable, NoPreviousModel
from maskloop_learner.train.verification import verify_model

REFUSALS: tuple[type[Exception], ...] = (ChampionConflict, ModelUnusable, NoPreviousModel)
"""What the functions here raise; the message says why and what to do."""


@dataclass(frozen=True)
class Change:
    """Which model serves now."""

    model: int
    version: str
    """The prediction version that should be served."""
    changed: bool = True
    """False: it was the champion already."""


def promote_model(
    pool: Pool,
    project: Project,
    model: Model,
    settings: Settings,
    *,
    by: str,
    reason: str = "",
    fence: int | None = None,
) -> Change:
    """Let the project serve one of its models, once its files are found whole; it is pinned.

    fence: the champion's as the person saw it; None: that of now. Raises one of `REFUSALS`.
    """
    with pool.read() as session:
        champion = session.get(Champion, project.id)
    if champion is not None and champion.model_id == model.id:
        return Change(model.id, champion.version_id, changed=False)
    broken = [finding for finding in verify_model(pool, model) if finding.broken and finding.part != "snapshot"]
    if broken and model.pruned_at is None:
        raise ModelUnusable(f"model {model.id} is not whole: {broken[0].what}. {broken[0].fix}")
    # As it was looked at: whoever promotes another at the same time is not overruled unseen.
    seen = fence if fence is not None else champion.fence if champion is not None else 0
    with pool.write() as session:
        row = session.get_one(Project, project.id)
        version = registry.promote(session, row, model.id, settings, fence=seen, by=by, reason=reason)
    return Change(model.id, version)


def roll_back(
    pool: Pool,
    project: Project,
    settings: Settings,
    *,
    by: str,
    to: int | None = None,
    reason: str = "",
    fence: int | None = None,
) -> Change:
    """Serve an earlier champion again (None: the previous one), pinned. `fence` and errors as in `promote_model`."""
    with pool.write() as session:
        _compare_fences(session.get(Champion, project.id), fence)
        row = session.get_one(Project, project.id)
        version = registry.roll_back(session, row, settings, by=by, to=to, reason=reason)
        return Change(session.get_one(Champion, project.id).model_id, version)


def release_champion(pool: Pool, project: Project, *, by: str, fence: int | None = None) -> bool:
    """Unpin the champion; return whether it was pinned. `fence` as in `promote_model`; raises ChampionConflict."""
    with pool.write() as session:
        _compare_fences(session.get(Champion, project.id, with_for_update=True), fence)
        return registry.release(session, project.id, by=by)


def _compare_fences(champion: Champion | None, fence: int | None) -> None:
    if fence is not None and champion is not None and champion.fence != fence:
        raise ChampionConflict(
            f"the champion changed meanwhile: its fence is {champion.fence}, no longer {fence}; "
            "look at the models and decide again"
        )
