"""One round of one strategy and seed: learn from what is labelled, measure, choose what is labelled next.

A training that was killed goes on from its checkpoint, so the figures are those of a simulation that was never
interrupted.
"""

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import ndimage

from maskloop_learner.evaluate.cells import to_json, write_atomically
from maskloop_learner.model.bases import Bases
from maskloop_learner.pool.masks import decode_mask, encode_mask
from maskloop_learner.select.candidates import Candidates, Pick
from maskloop_learner.select.choosing import Options, choose
from maskloop_learner.select.ground import draw_first
from maskloop_learner.select.labelled import Mask
from maskloop_learner.select.plan import Plan, SimulationError, Step
from maskloop_learner.select.quality import judge
from maskloop_learner.select.records import Picked, Record, choosers, read_record
from maskloop_learner.select.sights import Lessons, Seen, Watcher
from maskloop_learner.select.strategies import find_strategy
from maskloop_learner.select.vectors import Vectors, read_vectors
from maskloop_learner.train.loop import TrainingCancelled, train
from maskloop_learner.train.modality import PRESETS

CHECKPOINT_STEPS = 50


def run_step(plan: Plan, step: Step, *, should_stop: Callable[[], bool] = lambda: False) -> None:
    """Do a round and write its record; what it builds on must be finished.

    Raises TrainingCancelled soon after `should_stop`, with what was learnt in a checkpoint, and as `train` and `choose`
    do.
    """

    def tick() -> None:
        if should_stop():
            raise TrainingCancelled(f"stopped in {step.name}")

    started = time.monotonic()
    drawn = gather_labels(plan, step)
    vectors = read_vectors(plan, tick=tick)
    path = plan.record(step)
    checkpoint = path.with_suffix(".pt")
    learning = dict(plan.learning)
    weights = train(
        Lessons(plan, drawn),
        labels=list(plan.prompts),
        prompts=plan.prompts,
        seed=step.seed,
        device=plan.device,
        bases=Bases(plan.bases),
        augmentation=PRESETS[learning.pop("augmentation")],
        checkpoint=checkpoint,
        checkpoint_steps=CHECKPOINT_STEPS,
        on_progress=lambda progress: None,
        should_stop=should_stop,
        **learning,
    )
    watcher = Watcher(plan, weights)
    test = watcher.look(plan.ground.test, tick=tick)
    left = watcher.look((place for place in plan.ground.pool if place not in drawn), tick=tick)
    record: Record = {
        "seed": step.seed,
        "strategy": step.strategy,
        "round": step.number,
        "labels": len(drawn),
        "test": {plan.subjects[seen.place].name: seen.sight.dice for seen in test},
        "quality": judge([seen.sight for seen in left]).to_dict(),
        "picks": {name: pick(plan, step, name, left, vectors) for name in choosers(plan, step)},
        "seconds": round(time.monotonic() - started, 1),
    }
    write_atomically(path, to_json(record).encode())
    checkpoint.unlink(missing_ok=True)


def gather_labels(plan: Plan, step: Step) -> dict[int, dict[str, Mask]]:
    """Place -> label -> the mask that was drawn, of all images labelled before a step."""
    found = {place: _draw(plan, place, {}, step.seed) for place in first_places(plan, step.seed)}
    places = {subject.name: place for place, subject in enumerate(plan.subjects)}
    for earlier in plan.before(step):
        record = read_record(plan, earlier)
        if record is None:
            raise SimulationError(f"{plan.record(earlier)} is gone while {step.name} needs it; start again")
        for each in record["picks"][step.strategy]:
            place = places[each["name"]]
            truth = plan.subjects[place].open()[1]
            changed = {label: decode_mask(base64.b64decode(png)) for label, png in each.get("drawn", {}).items()}
            found[place] = truth | changed
    return found


def first_places(plan: Plan, seed: int) -> list[int]:
    """The first labelled images of a seed."""
    return draw_first(plan.ground.pool, plan.first, seed=seed)


def pick(plan: Plan, step: Step, strategy: str, left: Sequence[Seen], vectors: Mapping[int, Vectors]) -> list[Picked]:
    """What a strategy chooses of the images that are left, as the oracle labels it."""
    by_place = {seen.place: seen for seen in left}
    picks = select(plan, step, strategy, left, vectors)
    return [_label(plan, step, each, by_place[each.id]) for each in picks]


def select(plan: Plan, step: Step, strategy: str, left: Sequence[Seen], vectors: Mapping[int, Vectors]) -> list[Pick]:
    """A whole batch, always: where near-duplicates make it smaller they fill it, as budgets must be equal."""
    score = find_strategy(strategy).score
    seed = int(np.random.SeedSequence([step.seed, step.number]).generate_state(1)[0])
    options = Options(score=score, random_share=plan.random_share, round_number=step.number + 1, rounds=plan.rounds)
    chosen: list[Pick] = []
    for how in (options, replace(options, keep_duplicates=True)):
        taken = {each.id for each in chosen}
        rest = make_candidates(plan, [seen for seen in left if seen.place not in taken], vectors, score=score)
        if missing := plan.batch - len(chosen):
            chosen += choose(rest, strategy=strategy, size=missing, seed=seed, options=how)
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


def _draw(plan: Plan, place: int, shown: Mapping[str, bytes], seed: int) -> dict[str, Mask]:
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
    drawn, truth = _draw(plan, each.id, seen.shown, step.seed), subject.open()[1]
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
