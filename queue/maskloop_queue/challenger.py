"""A round's training as the settings ask for it: where it starts, on how many processes it runs, when it ends."""

import logging
from typing import TYPE_CHECKING

from maskloop_learner.pool.pool import Pool
from maskloop_learner.prompts.rules import default_prompts, render_negative
from maskloop_learner.settings import Settings
from maskloop_queue.lessons import Lessons, find_start
from maskloop_queue.plan import Plan
from maskloop_queue.ranks import train_together
from maskloop_queue.reporter import Reporter

if TYPE_CHECKING:
    from maskloop_learner.train.recipe import Recipe, WarmStart

log = logging.getLogger(__name__)


def train_challenger(pool: Pool, plan: Plan, settings: Settings, reporter: Reporter) -> tuple[bytes, int | None]:
    """The weights of a model trained on the plan's snapshot, and the id of the model that it went on from, if any.

    Raises as `train` does.
    """
    from maskloop_learner.model.bases import Bases
    from maskloop_learner.model.checkpoint import CheckpointError
    from maskloop_learner.train.course import Job, Progress
    from maskloop_learner.train.loop import fit, gather

    def on_progress(progress: Progress) -> None:
        reporter.progress({"step": progress.step, "steps": progress.steps, "loss": progress.loss, "eta": progress.eta})

    job = Job(
        checkpoint=plan.folder / "checkpoint.pt",
        on_progress=on_progress,
        should_stop=reporter.stopped,
        bases=Bases(settings.bases_folder),
    )

    def run(warm: "WarmStart | None") -> bytes:
        recipe = _recipe(plan, settings).after(warm)
        data = gather(Lessons(pool, plan.manifest), recipe, reporter.stopped)
        if settings.training_gpus == 1:
            return fit(data, recipe, job, warm=warm)
        return train_together(
            data,
            recipe,
            processes=settings.training_gpus,
            threads=settings.training_threads,
            checkpoint=job.checkpoint,
            bases=settings.bases_folder,
            on_progress=on_progress,
            should_stop=reporter.stopped,
            warm=warm,
        )

    warm = find_start(pool, plan.project_id, plan.manifest, settings)
    try:
        return run(warm), warm.model_id if warm else None
    except CheckpointError as error:
        if warm is None:
            raise
        log.warning("the champion cannot be gone on from (%s): this training starts from the base weights", error)
        return run(None), None


def _recipe(plan: Plan, settings: Settings) -> "Recipe":
    from maskloop_learner.train.modality import PRESETS
    from maskloop_learner.train.recipe import Recipe

    labels, templates = plan.manifest["labels"], plan.manifest["prompts"]
    return Recipe(
        backbone=settings.backbone,
        labels=list(labels),
        prompts=default_prompts(labels, templates),
        negatives={label: text for label in labels if (text := render_negative(label, templates))},
        prompt_dropout=settings.prompt_dropout,
        steps=settings.train_steps,
        batch=settings.train_batch,
        seed=settings.train_seed,
        device=settings.device,
        checkpoint_steps=settings.checkpoint_steps,
        precision=settings.precision,
        augmentation=PRESETS[settings.augmentation],
        patience=settings.early_stopping,
    )
