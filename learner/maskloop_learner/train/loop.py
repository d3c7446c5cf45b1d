"""Training: labelled images in, weights out; may be killed at any moment and goes on where it was."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from maskloop_learner.model.backbones import find_backbone
from maskloop_learner.model.bases import Bases
from maskloop_learner.model.checkpoint import save_weights
from maskloop_learner.model.device import find_device
from maskloop_learner.model.precision import Precision, choose_dtype
from maskloop_learner.model.start import Start, build_start
from maskloop_learner.train.augment import Augmentation
from maskloop_learner.train.batches import StepConfig
from maskloop_learner.train.course import Course, Job, Progress
from maskloop_learner.train.examples import Example, ExampleSet, TrainingCancelled, TrainingError, gather_examples
from maskloop_learner.train.holdout import Examiner, hold_out, take, watch_of
from maskloop_learner.train.losses import DiceKind
from maskloop_learner.train.modality import keep_sides
from maskloop_learner.train.prompts import all_texts, read_prompts
from maskloop_learner.train.recipe import Recipe, WarmStart, digest_of
from maskloop_learner.train.schedule import Order

__all__ = ["Example", "Job", "Progress", "TrainingCancelled", "TrainingError", "WarmStart", "fit", "gather", "train"]


def train(
    examples: Sequence[Example],
    *,
    backbone: str,
    labels: Sequence[str],
    prompts: Mapping[str, str],
    steps: int,
    batch: int,
    seed: int,
    device: str,
    checkpoint: Path,
    checkpoint_steps: int,
    on_progress: Callable[[Progress], None],
    should_stop: Callable[[], bool],
    augmentation: Augmentation | None = None,
    bases: Bases | None = None,
    start: Start = "pretrained",
    learning_rates: tuple[float, float] | None = None,
    dice: DiceKind = "image",
    official_preprocessing: bool = False,
    precision: Precision = "fp32",
    recompute: bool = False,
    prompt_dropout: float = 0.0,
    negatives: Mapping[str, str] | None = None,
    patience: int = 0,
    warm: WarmStart | None = None,
) -> bytes:
    """Train from the backbone's start, or from an earlier model (`warm`), and return the weights (see `load_weights`).

    `learning_rates` (first, last) are the backbone's when left out. `dice="row"` and `official_preprocessing` are as
    published, for reproduction. `recompute` computes activations twice to need less memory. `prompt_dropout` (0..1) is
    how often an example is asked by one of its prompts that say less; `negatives` are prompts, by label, for examples
    that are known to lack it. With `patience` some examples are held out, and after so many looks at them without a
    better one the best weights are returned (see `train.holdout`); 0: all are learnt from, for all steps.

    Goes on from `checkpoint` if that was written by the same training: on a CPU the result is then that of
    a training never interrupted. A checkpoint that cannot be written (a full disk) is a warning. A step that does not
    fit into the memory is computed in parts, with the same result up to rounding.

    Raises TrainingError naming the cause, TrainingCancelled within a stage of the model after `should_stop`,
    BackboneError when frozen towers are missing, CheckpointError when the earlier model cannot be started from and
    ValueError for an unknown backbone or device.
    """
    recipe = Recipe(
        backbone=backbone,
        labels=list(labels),
        prompts=dict(prompts),
        steps=steps,
        batch=batch,
        seed=seed,
        device=device,
        checkpoint_steps=checkpoint_steps,
        augmentation=augmentation or Augmentation(),
        start=start,
        learning_rates=learning_rates,
        dice=dice,
        official_preprocessing=official_preprocessing,
        precision=precision,
        recompute=recompute,
        prompt_dropout=prompt_dropout,
        negatives=dict(negatives or {}),
        patience=patience,
    )
    recipe = recipe.after(warm)
    job = Job(checkpoint=checkpoint, on_progress=on_progress, should_stop=should_stop, bases=bases)
    return fit(gather(examples, recipe, should_stop), recipe, job, warm=warm)


def gather(examples: Sequence[Example], recipe: Recipe, should_stop: Callable[[], bool]) -> ExampleSet:
    """The examples as the recipe's model sees them. Raises TrainingError, and TrainingCancelled between two."""
    done = 0

    def tick() -> None:
        nonlocal done
        if should_stop():
            raise TrainingCancelled(f"cancelled while images were read, {done} of {len(examples)}")
        done += 1

    size = find_backbone(recipe.backbone).image_size
    return gather_examples(
        examples, labels=recipe.labels, size=size, antialias=not recipe.official_preprocessing, tick=tick
    )


def fit(data: ExampleSet, recipe: Recipe, job: Job, *, warm: WarmStart | None = None) -> bytes:
    """`train` on examples that are gathered. All processes of a team call it alike; the first one's result counts."""
    spec = find_backbone(recipe.backbone)
    if recipe.learning_rates is not None:
        spec = replace(spec, learning_rates=recipe.learning_rates)
    device = find_device(recipe.device)
    initial = warm.initial if warm else None
    model = build_start(spec, seed=recipe.seed, start=recipe.start, bases=job.bases, initial=initial)
    model.spec = spec
    model = model.to(device).train()
    if recipe.official_preprocessing:
        model.preprocessing = "official"
    model.checkpointing = recipe.recompute

    def tick() -> None:
        # Processes of a team end together, at the top of a step.
        if job.team.size == 1 and job.should_stop():
            raise TrainingCancelled("cancelled before the first step")

    labels, prompts = recipe.labels, recipe.prompts
    table = read_prompts(
        model, data, labels, prompts, dropout=recipe.prompt_dropout, negatives=recipe.negatives, tick=tick
    )
    how = StepConfig(
        augmentation=keep_sides(recipe.augmentation, all_texts(data, prompts, recipe.negatives)),
        dice=recipe.dice,
        dtype=choose_dtype(recipe.precision, device),
    )
    held = hold_out(data) if recipe.patience else []
    course = Course(
        model=model,
        data=data,
        table=table,
        how=how,
        recipe=recipe,
        job=job,
        order=order_of(data, held, warm),
        watch=watch_of(recipe) if held else None,
        examiner=Examiner(model, take(data, held), labels, prompts, team=job.team) if held else None,
        run=digest_of(
            recipe.determining(),
            [repr(spec), model.base, model.preprocessing, repr(how)],
            [data.digest, data.prompts, data.lesser, held and data.groups],
            [hashlib.sha256(warm.initial).hexdigest(), sorted(warm.fresh or [])] if warm else [],
        ),
    )
    course.run_through()
    meta = {"labels": list(labels), "prompts": {label: prompts[label] for label in labels}}
    return save_weights(model, meta=meta | course.said())


def order_of(data: ExampleSet, held: Sequence[int], warm: WarmStart | None) -> Order:
    """Which examples the steps draw from: all but those held out, the new ones apart from those to be replayed."""
    learnt = [k for k in range(len(data.names)) if k not in set(held)]
    if warm is None or warm.fresh is None:
        return Order(learnt)
    fresh = [k for k in learnt if k in warm.fresh]
    return Order(fresh, [k for k in learnt if k not in warm.fresh], replay=warm.replay)
