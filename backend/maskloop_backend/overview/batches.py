"""A project's batches: how each was chosen, how far it is, and its images with what the model said of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop_learner.pool.groups import name_of
from maskloop_learner.pool.members import Member, Standing, tally
from maskloop_learner.pool.queries import current_version, scores_of
from maskloop_learner.pool.schema import Batch, Event, Image, Prediction, Score, Task
from maskloop_learner.select.strategies import STRATEGIES

ROWS_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A batch without its images."""

    number: int
    state: str
    """open, closed or undone."""
    strategy: str
    counts: dict[Standing, int]
    """How many of its tasks stand how."""
    options: tuple[tuple[str, str], ...]
    """What it was chosen with: (name, value) in words."""
    note: str
    version: str | None
    """The prediction version whose scores it was chosen by."""
    in_label_studio: bool
    """Whether Label Studio has its tab."""
    created_at: datetime
    created_by: str
    closed_at: datetime | None
    ended_by: str
    """Who ended it, and why; "" where nobody has, or in a list."""

    @property
    def size(self) -> int:
        """How many images it has."""
        return sum(self.counts.values())

    @property
    def waiting(self) -> int:
        """How many are left to be labelled."""
        return self.counts["waiting"]

    @property
    def done(self) -> int:
        """How many wait no longer: labelled, skipped, unreadable or deleted."""
        return self.size - self.waiting

    @property
    def mark(self) -> str:
        """Another one when an image of it stands differently."""
        return "-".join(map(str, self.counts.values()))

    @property
    def follows(self) -> bool:
        """Whether Label Studio is still to follow the last change."""
        return self.in_label_studio != (self.state == "open")

    @property
    def help(self) -> str:
        """What its strategy prefers, in one line; "" for one that there is no longer."""
        return STRATEGIES[self.strategy].help if self.strategy in STRATEGIES else ""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An image of a batch, and what a model says of it."""

    member: Member
    name: str
    group: str
    image: Image | None
    prediction: Prediction | None
    """By the version that the batch was chosen by, else by the one of now."""
    scores: list[Score]
    """Without their aggregates, which are most of their bytes."""

    @property
    def rank(self) -> str:
        """Its place among the candidates when it was chosen: "3 of 9,812"; "" where none was known."""
        rank, of = self.member.figures.get("rank"), self.member.figures.get("of")
        return f"{rank:,} of {of:,}" if isinstance(rank, int) and isinstance(of, int) else ""


def list_summaries(
    session: Session, project_id: int, *, before: int | None = None, limit: int = 50
) -> tuple[list[Summary], int | None]:
    """Batches, the newest first, and the number before which there are more; None: there are none."""
    statement = select(Batch).where(Batch.project_id == project_id).order_by(Batch.number.desc()).limit(limit + 1)
    if before is not None:
        statement = statement.where(Batch.number < before)
    found = session.scalars(statement).all()
    shown = found[:limit]
    counts = tally(session, shown)
    more = shown[-1].number if len(found) > limit else None
    return [summarise(batch, counts[batch.id]) for batch in shown], more


def find_summary(session: Session, batch: Batch) -> Summary:
    """One batch, with who ended it."""
    ended = ""
    if batch.state != "open":
        kinds = Event.kind.in_(("batch.closed", "batch.undone"))
        mine = Event.project_id == batch.project_id, kinds, Event.subject == str(batch.number)
        last = session.scalars(select(Event).where(*mine).order_by(Event.id.desc()).limit(1)).first()
        ended = ": ".join(filter(None, (last.data.get("by", ""), last.data.get("why", "")))) if last else ""
    return summarise(batch, tally(session, [batch])[batch.id], ended_by=ended)


def summarise(batch: Batch, counts: dict[Standing, int], *, ended_by: str = "") -> Summary:
    """A batch and the counts of its tasks."""
    return Summary(
        number=batch.number,
        state=batch.state,
        strategy=batch.strategy,
        counts=counts,
        options=tuple(tell_options(batch.strategy, batch.options, seed=batch.seed)),
        note=batch.note,
        version=batch.version_id,
        in_label_studio=batch.ls_view_id is not None,
        created_at=batch.created_at,
        created_by=batch.created_by,
        closed_at=batch.closed_at,
        ended_by=ended_by,
    )


def tell_options(strategy: str, options: Mapping[str, Any], *, seed: int) -> Iterator[tuple[str, str]]:
    """What a batch was chosen with, in words: (name, value). What does not matter for the strategy is left out."""
    needs = STRATEGIES[strategy].needs if strategy in STRATEGIES else ()
    if options.get("score") and ("scores" in needs or strategy == "diverse"):
        yield "Score", str(options["score"])
    if (share := options.get("random_share")) is not None:
        yield "By lot", f"{100 * share:g} %"
    if options.get("group_cap"):
        yield "Of one group", f"{options['group_cap']} at most"
    if options.get("keep_duplicates"):
        yield "Near duplicates", "kept"
    if strategy in ("power", "claspe"):
        beta, number = options.get("beta"), options.get("round_number", 1)
        yield "Beta", f"by schedule, batch {number}" if beta is None else str(beta)
    yield "Seed", str(seed)


def read_entries(session: Session, batch: Batch, members: Sequence[Member]) -> list[Entry]:
    """What is to be shown of some of a batch's tasks, in their order."""
    return list_entries(session, batch.project_id, members, version=batch.version_id)


def list_entries(session: Session, project_id: int, members: Sequence[Member], *, version: str | None) -> list[Entry]:
    """The same of a plan that is no batch yet. version: the prediction version that it was chosen by."""
    found: list[Entry] = []
    for start in range(0, len(members), ROWS_AT_ONCE):
        found += _list_some(session, project_id, members[start : start + ROWS_AT_ONCE], version)
    return found


def _list_some(session: Session, project_id: int, members: Sequence[Member], version: str | None) -> list[Entry]:
    ids = [member.task_id for member in members]
    tasks = {task.id: task for task in session.scalars(select(Task).where(Task.id.in_(ids)))}
    digests = {task.image_digest for task in tasks.values() if task.image_digest}
    images = {image.digest: image for image in session.scalars(select(Image).where(Image.digest.in_(digests)))}
    said = _predictions(session, digests, [each for each in (version, current_version(session, project_id)) if each])
    scores = scores_of(session, [prediction.id for prediction in said.values()], figures=False)
    found: list[Entry] = []
    for member in members:
        task = tasks[member.task_id]
        prediction = said.get((task.image_digest or "", task.prompt_digest))
        found.append(
            Entry(
                member=member,
                name=name_of(task.data or {}, task.url or "") or f"task {task.ls_id}",
                group=task.group_key,
                image=images.get(task.image_digest or ""),
                prediction=prediction,
                scores=scores.get(prediction.id, []) if prediction is not None else [],
            )
        )
    return found


def _predictions(session: Session, digests: set[str], versions: Sequence[str]) -> dict[tuple[str, str], Prediction]:
    """(image, prompts) -> its prediction by the first of the versions that has one."""
    statement = select(Prediction).where(Prediction.version_id.in_(versions), Prediction.image_digest.in_(digests))
    rows = session.scalars(statement).all() if versions and digests else []
    found: dict[tuple[str, str], Prediction] = {}
    for row in sorted(rows, key=lambda row: versions.index(row.version_id)):
        found.setdefault((row.image_digest, row.prompt_digest), row)
    return found
