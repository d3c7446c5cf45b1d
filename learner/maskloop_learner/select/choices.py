"""What is labelled next in a simulation: a strategy's batch, as the oracle draws it."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import ndimage

from maskloop_learner.pool.masks import decode_mask, encode_mask
from maskloop_learner.select.candidates import Candidates, Pick
from maskloop_learner.select.choosing import Options, choose
from maskloop_learner.select.labelled import Mask
from maskloop_learner.select.plan import Plan, Step
from maskloop_learner.select.records import Picked
from maskloop_learner.select.sights import Seen
from maskloop_learner.select.strategies import read_strategy
from maskloop_learner.select.vectors import Vectors


def pick(plan: Plan, step: Step, strategy: str, left: Sequence[Seen], vectors: Mapping[int, Vectors]) -> list[Picked]:
    """What a strategy chooses of the images that are left, as the oracle labels it."""
    by_place = {seen.place: seen for seen in left}
    picks = select(plan, step, strategy, left, vectors)
    return [_label(plan, step, each, by_place[each.id]) for each in picks]


def select(plan: Plan, step: Step, strategy: str, left: Sequence[Seen], vectors: Mapping[int, Vectors]) -> list[Pick]:
    """A whole batch, always: where near-duplicates make it smaller they fill it, as budgets must be equal."""
    chooser = read_strategy(strategy)
    score = chooser.score
    seed = int(np.random.SeedSequence([step.seed, step.number]).generate_state(1)[0])
    options = Options(score=score, random_share=plan.random_share, round_number=step.number + 1, rounds=plan.rounds)
    chosen: list[Pick] = []
    for how in (options, replace(options, keep_duplicates=True)):
        missing = plan.batch - len(chosen)
        if not missing:
            break
        taken = {each.id for each in chosen}
        rest = make_candidates(plan, [seen for seen in left if seen.place not in taken], vectors, score=score)
        chosen += choose(rest, strategy=chooser.name, size=missing, seed=seed, options=how)
    return chosen


def make_candidates(plan: Plan, left: Sequence[Seen], vectors: Mapping[int, Vectors], *, score: str) -> Candidates:
    """What strategies choose from: the images that are left, known by their places; all others are labelled."""
    rows = sorted(left, key=lambda seen: seen.place)
    labelled = sorted(set(vectors) - {seen.place for seen in rows})
    measure, _, aggregation = score.partition("/")
    looks = [plan.ground.looks[seen.place] for seen in rows]
    return Candidates(
        ids=np.array([seen.place for seen in rows], np.int64),
        scores=np.array([seen.scores[measure][aggregation] for seen in rows], np.float64),
        groups=np.array([plan.ground.groups[seen.place] for seen in rows], np.int64),
        shares=np.array([seen.shares for seen in rows], np.float64).reshape(len(rows), len(plan.prompts)),
        embeddings=np.stack([vectors[seen.place] for seen in rows]),
        labelled=np.stack([vectors[place] for place in labelled]),
        labelled_ids=np.array(labelled, np.int64),
        labels=tuple(plan.prompts),
        phashes=[look.phash for look in looks],
        thumbnails=[look.thumbnail for look in looks],
    )


def draw(plan: Plan, place: int, shown: Mapping[str, bytes], *, seed: int) -> dict[str, Mask]:
    """Label -> the mask that the oracle draws of a subject. shown: label -> the model's mask as PNG, or nothing."""
    subject = plan.subjects[place]
    return {
        label: plan.oracle.label(
            truth,
            shown=decode_mask(shown[label]) if label in shown else None,
            image=subject.name,
            label=label,
            seed=seed,
        )
        for label, truth in subject.open()[1].items()
    }


def _label(plan: Plan, step: Step, each: Pick, seen: Seen) -> Picked:
    subject = plan.subjects[each.id]
    drawn, truth = draw(plan, each.id, seen.shown, seed=step.seed), subject.open()[1]
    changed = {
        label: base64.b64encode(encode_mask(mask)).decode()
        for label, mask in drawn.items()
        if not np.array_equal(mask, truth[label])
    }
    figures = {name: _named(plan, name, value) for name, value in each.figures.items()}
    found: Picked = {
        "name": subject.name,
        "slot": each.slot,
        "score": each.score,
        "reason": each.reason,
        "figures": figures,
        "pixels": sum(int(mask.sum()) for mask in drawn.values()),
        "parts": sum(int(ndimage.label(mask, structure=np.ones((3, 3)))[1]) for mask in drawn.values()),
    }
    return {**found, "drawn": changed} if changed else found


def _named(plan: Plan, name: str, value: Any) -> Any:
    """Neighbours by their images' names instead of places."""
    return [plan.subjects[place].name for place in value] if name == "neighbours" else value
