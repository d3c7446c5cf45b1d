"""A batch from the wish to the lock: what would be chosen of a project's images, and its creation."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from maskloop_learner.pool.batches import BatchError, create_batch
from maskloop_learner.pool.candidates import load_candidates
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import current_version
from maskloop_learner.pool.schema import Batch
from maskloop_learner.select.candidates import Pick
from maskloop_learner.select.choosing import make_choice
from maskloop_learner.select.options import ChoosingError, Options
from maskloop_learner.select.strategies import DEFAULT, find_strategy

NO_MODEL = "this project has no model yet"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How a batch is wished for."""

    size: int
    strategy: str = DEFAULT
    seed: int | None = None
    """None: the number that the batch will have, so that a trial and the batch after it are the same."""
    options: Options = field(default_factory=Options)


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The images that would be locked, in their order, and all that they were chosen by."""

    picks: list[Pick]
    candidates: int
    """How many images could have been chosen."""
    strategy: str
    seed: int
    options: Mapping[str, Any]
    version_id: str | None
    note: str = ""
    """What is to be said of the choice, see `Choice.note`."""


def plan_batch(pool: Pool, project_id: int, asked: Asked) -> Planned:
    """Choose without changing anything; equal pools give equal plans.

    Raises ChoosingError for a strategy that is unknown or lacks what it needs, for instance a model; BatchError when
    there are fewer images than asked for.
    """
    strategy = find_strategy(asked.strategy)
    with pool.read() as session:
        number = _last(session, project_id) + 1
        version = current_version(session, project_id)
        score = asked.options.score or strategy.score
        found = load_candidates(session, project_id, version, score=score, leave_out_open_batch=True)
    options = replace(asked.options, score=score, round_number=number)
    seed = number if asked.seed is None else asked.seed
    try:
        choice = make_choice(found, strategy=strategy.name, size=asked.size, seed=seed, options=options)
    except ChoosingError as error:
        if version is None and len(found) and set(strategy.needs) & {"scores", "shares"}:
            raise ChoosingError(f"{NO_MODEL}: {error}") from error
        raise
    if len(choice.picks) < asked.size:
        most = len(choice.picks)
        cure = f"ask for {most} at most" if most else "import images, or wait until they are fetched"
        raise BatchError(f"{choice.shortage}; {cure}")
    kept = {name: str(value) if value == math.inf else value for name, value in asdict(options).items()}
    return Planned(
        picks=choice.picks,
        candidates=len(found),
        strategy=strategy.name,
        seed=seed,
        options={"size": asked.size, **kept},
        version_id=version,
        note=choice.note,
    )


def lock_batch(pool: Pool, project_id: int, planned: Planned, *, by: str) -> Batch:
    """Make the plan the project's open batch. Raises BatchError when one is open already."""
    with pool.write() as session:
        return create_batch(
            session,
            project_id,
            planned.picks,
            strategy=planned.strategy,
            seed=planned.seed,
            options=planned.options,
            version_id=planned.version_id,
            by=by,
            note=planned.note,
        )


def _last(session: Session, project_id: int) -> int:
    return session.scalar(select(func.max(Batch.number)).where(Batch.project_id == project_id)) or 0
