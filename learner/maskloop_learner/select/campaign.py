"""One round of one strategy and seed: learn from what is labelled, measure, choose what is labelled next.

A training that was killed goes on from its checkpoint, so the figures are those of a simulation that was never
interrupted.
"""

import base64
import time
from collections.abc import Callable

from maskloop_learner.evaluate.cells import read_json, to_json, write_atomically
from maskloop_learner.model.bases import Bases
from maskloop_learner.pool.masks import decode_mask
from maskloop_learner.select.choices import draw, pick
from maskloop_learner.select.ground import draw_first
from maskloop_learner.select.labelled import Mask
from maskloop_learner.select.plan import Plan, SimulationError, Step
from maskloop_learner.select.quality import judge
from maskloop_learner.select.records import Record, choosers, read_record
from maskloop_learner.select.sights import Lessons, Watcher
from maskloop_learner.select.vectors import read_vectors
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
    test = watcher.test(tick=tick)
    choosing = choosers(plan, step)
    left = watcher.look((place for place in plan.ground.pool if place not in drawn), tick=tick) if choosing else []
    record: Record = {
        "seed": step.seed,
        "strategy": step.strategy,
        "round": step.number,
        "labels": len(drawn),
        "test": {name: sight.dice for name, sight in test.items()},
        "quality": judge(list(test.values())).to_dict(),
        "picks": {name: pick(plan, step, name, left, vectors) for name in choosing},
        "seconds": round(time.monotonic() - started, 1),
    }
    if (before := read_json(path)) is not None:
        # A strategy was added: what the others have learnt from stays what it was.
        record["test"], record["quality"], record["seconds"] = (before[name] for name in ("test", "quality", "seconds"))
        record["picks"] |= before["picks"]
    write_atomically(path, to_json(record).encode())
    checkpoint.unlink(missing_ok=True)


def gather_labels(plan: Plan, step: Step) -> dict[int, dict[str, Mask]]:
    """Place -> label -> the mask that was drawn, of all images labelled before a step."""
    found = {place: draw(plan, place, {}, seed=step.seed) for place in first_places(plan, step.seed)}
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
