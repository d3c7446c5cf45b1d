"""The steps of a training, one after the other, with what must survive its death."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from maskloop_learner.model.bases import Bases
from maskloop_learner.model.checkpoint import stored_parameters
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.train.batches import StepConfig
from maskloop_learner.train.examples import ExampleSet, TrainingCancelled, TrainingError
from maskloop_learner.train.holdout import Examiner, Watch
from maskloop_learner.train.prompts import PromptTable
from maskloop_learner.train.recipe import Recipe
from maskloop_learner.train.resume import clear_leftovers, read_state, write_state
from maskloop_learner.train.schedule import Order, learning_rate, step_seed
from maskloop_learner.train.steps import Room, take_step
from maskloop_learner.train.team import ALONE, Team

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """Where a training is."""

    step: int
    """Steps done, 1..steps."""
    steps: int
    loss: float
    eta: float
    """Seconds to go."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What of a training depends on where it runs."""

    checkpoint: Path
    on_progress: Callable[[Progress], None]
    should_stop: Callable[[], bool]
    bases: Bases | None = None
    team: Team = field(default=ALONE)


class Course:
    """One training, from its start or its checkpoint to its last step."""

    def __init__(
        self,
        *,
        model: MedCLIPSeg,
        data: ExampleSet,
        table: PromptTable,
        how: StepConfig,
        recipe: Recipe,
        job: Job,
        order: Order,
        run: str,
        watch: Watch | None = None,
        examiner: Examiner | None = None,
    ) -> None:
        """`run` names all that determines the result: only a checkpoint with the same name is gone on with."""
        self._model, self._data, self._table, self._how = model, data, table, how
        self._recipe, self._job, self._order, self._run = recipe, job, order, run
        self._watch, self._examiner = watch, examiner
        self._stored = stored_parameters(model)
        self._learning = [p for p in model.parameters() if p.requires_grad]
        self._optimizer = torch.optim.Adam(self._learning, lr=model.spec.learning_rates[0])
        self._room = Room()
        self._step = self._saved = 0

    def run_through(self) -> None:
        """Take all steps that are left. Raises TrainingCancelled, after what was learnt is in the checkpoint."""
        if self._job.team.rank == 0:
            clear_leftovers(self._job.checkpoint)
        self._resume()
        team = self._job.team
        if (
            team.size > 1
            and int(team.sum(torch.tensor(self._step, device=self._model.device))) != self._step * team.size
        ):
            raise TrainingError(f"not all processes can read {self._job.checkpoint}; remove it to start again")
        self._model.on_stage = self._tick if self._job.team.size == 1 else None
        try:
            self._walk()
        except TrainingCancelled:
            # An optimizer's step is never cut in two, so what stands here is whole.
            if self._step > self._saved:
                self._save()
            raise
        finally:
            self._model.on_stage = None

    def _walk(self) -> None:
        steps, started, first = self._recipe.steps, time.monotonic(), self._step
        loss = 0.0
        while not self._over():
            if self._job.team.lead(self._job.should_stop()):
                raise self._cancelled()
            loss = self._take(self._step)
            self._step += 1
            if self._step % self._recipe.checkpoint_steps == 0 or self._step == steps:
                self._save()
            pace = (time.monotonic() - started) / (self._step - first)
            self._job.on_progress(Progress(self._step, steps, loss, pace * (steps - self._step)))
        if self._watch is not None and self._watch.weights is not None:
            self._save()
            log.info("the best weights on held-out images are those after step %d of %d", self._watch.step, steps)
            self._fill(self._watch.weights)
            if self._step < steps:
                self._job.on_progress(Progress(self._step, self._step, loss, 0.0))

    def _over(self) -> bool:
        """Whether no step is left; looks at the held-out examples when it is time to."""
        watch, steps = self._watch, self._recipe.steps
        if watch is not None and self._examiner is not None and watch.due(self._step, steps):
            watch.note(self._step, self._examiner.look(self._tick_between), self._stored)
        return self._step >= steps or (watch is not None and watch.ended)

    def _take(self, step: int) -> float:
        recipe = self._recipe
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self._model.spec, step, recipe.steps)
        # All chance of a step comes from its number: a resumed training needs no generator's state.
        generator = torch.Generator().manual_seed(step_seed(recipe.seed, step))
        chosen = self._order.pick(step=step, batch=recipe.batch, seed=recipe.seed)
        tokens = self._table.choose(self._data, chosen, seed=recipe.seed, step=step)
        return take_step(
            self._model,
            self._optimizer,
            self._learning,
            self._data,
            chosen,
            tokens,
            self._how,
            generator,
            room=self._room,
            team=self._job.team,
        )

    def _tick(self) -> None:
        if self._job.should_stop():
            raise self._cancelled()

    def _tick_between(self) -> None:
        if self._job.team.size == 1:
            self._tick()

    def _cancelled(self) -> TrainingCancelled:
        return TrainingCancelled(f"cancelled after {self._step} of {self._recipe.steps} steps")

    def _resume(self) -> None:
        if (state := read_state(self._job.checkpoint, run=self._run)) is None:
            return
        self._fill(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._step = self._saved = int(state["step"])
        if self._watch is not None:
            self._watch.restore(state["watch"])

    def _save(self) -> None:
        if self._job.team.rank:
            return
        weights = {name: p.detach() for name, p in self._stored.items()}
        state: dict[str, Any] = {"run": self._run, "step": self._step, "model": weights}
        state["optimizer"] = self._optimizer.state_dict()
        if self._watch is not None:
            state["watch"] = self._watch.state()
        try:
            write_state(self._job.checkpoint, state)
        except OSError as error:
            # Without it a kill costs time, and only then; ending here would cost the training.
            log.warning(
                "the checkpoint after step %d cannot be written (%s): training goes on, and if it is killed it starts "
                "again from step %d; free some space for %s",
                self._step,
                error,
                self._saved,
                self._job.checkpoint.parent,
            )
        else:
            self._saved = self._step

    def _fill(self, weights: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self._stored.items():
                parameter.copy_(weights[name])

    def said(self) -> dict[str, object]:
        """For the weights file: how they came about."""
        recipe = self._recipe
        found: dict[str, object] = {"steps": recipe.steps, "seed": recipe.seed, "examples": len(self._data.names)}
        if self._watch is not None:
            found["best_step"] = self._watch.step
        return found
