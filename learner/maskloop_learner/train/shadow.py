"""A model in shadow: it waits beside the champion, predicts images that are labelled from then on, and is compared."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from sqlalchemy.orm import Session

from maskloop_learner.pool.events import record
from maskloop_learner.pool.masks import Mask, decode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import Question, predictions_for, scores_of
from maskloop_learner.pool.schema import Champion, Label, Model, Project, Task, utcnow
from maskloop_learner.pool.snapshot import newest_labels
from maskloop_learner.predict.version import prediction_version
from maskloop_learner.settings import Settings
from maskloop_learner.train.gate import Decision, Rules, decide
from maskloop_learner.train.lineage import Learnt, find_seen
from maskloop_learner.train.metrics import dice
from maskloop_learner.train.registry import settle_shadow, version_config
from maskloop_learner.train.slices import Case


@dataclass(frozen=True, kw_only=True)
class ShadowReport:
    """Champion and model in shadow on images that were labelled after it came into shadow; neither has seen them."""

    model_id: int
    since: datetime
    waiting: int
    """Images that one of both has not predicted yet."""
    decision: Decision
    """What the gate says of these images; it promotes nothing."""
    blind: Decision | None
    """The same on those whose annotator saw no prediction; None without any. On others a label that was corrected
    from the champion's mask favours the champion."""


def begin_shadow(session: Session, project_id: int, model_id: int, *, by: str) -> None:
    """Let a model wait beside the project's champion; one that waited there before has to go."""
    champion = session.get_one(Champion, project_id)
    if champion.challenger_id == model_id:
        return
    end_shadow(session, project_id, by=by)
    champion.challenger_id, champion.challenger_since = model_id, utcnow()
    record(session, "shadow.begun", project_id=project_id, subject=str(model_id), data={"by": by})


def end_shadow(session: Session, project_id: int, *, by: str) -> int | None:
    """Let no model wait any more; return the id of the one that did, None if there was none."""
    champion = session.get(Champion, project_id)
    if champion is None or champion.challenger_id is None:
        return None
    before, champion.challenger_id, champion.challenger_since = champion.challenger_id, None, None
    settle_shadow(session, project_id, before, promoted=False, by=by)
    return before


def shadow_of(session: Session, project_id: int) -> tuple[Model, datetime] | None:
    """The model in shadow and since when it is; None without one, or when it serves by now."""
    champion = session.get(Champion, project_id)
    if champion is None or champion.challenger_id in (None, champion.model_id) or champion.challenger_since is None:
        return None
    return session.get_one(Model, champion.challenger_id), champion.challenger_since


def fresh_labels(session: Session, project_id: int, since: datetime) -> list[tuple[Label, Task]]:
    """Labels that came after that moment, the newest of each image, with their tasks."""
    found = newest_labels(session, project_id).values()
    return sorted(((a, b) for a, b in found if a.created_at > since), key=lambda pair: pair[0].id)


def report_shadow(pool: Pool, project_id: int, settings: Settings, rules: Rules) -> ShadowReport | None:
    """Compare champion and model in shadow on what was labelled since; None without a model in shadow.

    Images of either's snapshot are left out, whatever was labelled anew on them.
    """
    with pool.read() as session:
        shadow, champion = shadow_of(session, project_id), session.get(Champion, project_id)
        if shadow is None or champion is None:
            return None
        model, since = shadow
        project = session.get_one(Project, project_id)
        version = prediction_version(version_config(project, model, settings))
        labels, field = fresh_labels(session, project_id, since), project.grouping.get("source", "")
    seen = [find_seen(pool, each) for each in (champion.model_id, model.id)]
    labels = [pair for pair in labels if not any(_knows(each, pair[1]) for each in seen)]
    cases: list[Case] = []
    blind: set[str] = set()
    for label, task in labels:
        made = _compare(pool, label, task, champion.version_id, version, source=str(task.data.get(field) or ""))
        cases += made
        if made and task.blind:
            blind.add(made[0].image)
    alone = [case for case in cases if case.image in blind]
    return ShadowReport(
        model_id=model.id,
        since=since,
        waiting=len(labels) - len({case.image for case in cases}),
        decision=decide(cases, rules=rules),
        blind=decide(alone, rules=rules) if alone else None,
    )


def _knows(seen: Learnt, task: Task) -> bool:
    return seen.has({"image": task.image_digest or "", "group": task.group_key})


def _compare(pool: Pool, label: Label, task: Task, champion: str, challenger: str, *, source: str) -> list[Case]:
    digest = task.image_digest or ""
    question = Question(digest, task.prompt_digest)
    with pool.read() as session:
        rows = [predictions_for(session, version, [question]).get(question) for version in (champion, challenger)]
        both = [scores_of(session, [row.id])[row.id] for row in rows if row is not None and row.error is None]
    if len(both) < 2:
        return []
    old, new = ({score.label: score.mask_digest for score in scores} for scores in both)
    cases = []
    for name in sorted(old.keys() & new.keys()):
        if label.known is not None and name not in label.known:
            continue
        theirs = [_mask(pool, digests[name]) for digests in (old, new)]
        truth = _mask(pool, label.masks[name]) if name in label.masks else np.zeros_like(theirs[0])
        case = Case(
            image=digest,
            group=task.group_key or digest,
            source=source,
            label=name,
            area=float(truth.mean()),
            champion=dice(theirs[0], truth),
            challenger=dice(theirs[1], truth),
        )
        cases.append(case)
    return cases


def _mask(pool: Pool, digest: str) -> Mask:
    return decode_mask(pool.store.get("masks", digest))
