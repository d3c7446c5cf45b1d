"""The training worker's job: train on a snapshot, pass the gate, publish. Safe to run again after any death."""

import fcntl
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskloop_learner.pool.events import record
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model, Project, Round, Snapshot, utcnow
from maskloop_learner.pool.snapshot import Manifest, load_manifest
from maskloop_learner.prompts.rules import default_prompts, render_negative
from maskloop_learner.settings import Settings
from maskloop_learner.train.gate import Decision, decide
from maskloop_learner.train.registry import ChampionConflict, ensure_version, set_champion
from maskloop_queue.trials import Trial, load_examples
from maskloop_queue.triggers import BACKOFF

if TYPE_CHECKING:
    from maskloop_learner.train.examination import Examination

log = logging.getLogger(__name__)
Report = Callable[[dict[str, Any]], None]

MAX_FAILURES = len(BACKOFF) + 1
MAX_DEATHS = 20
"""A process that is killed says nothing of its labels, so it is tried more often than one that fails."""


class RoundBusy(RuntimeError):
    """Another process on this machine is at work on the same round."""


@dataclass(frozen=True)
class Plan:
    """What a round works on, read once at its start."""

    round_id: int
    project_id: int
    snapshot_id: int
    manifest: Manifest
    folder: Path


def run(pool: Pool, round_id: int, settings: Settings, report: Report, should_stop: Callable[[], bool]) -> None:
    """Train the round's snapshot and publish the outcome. A round that has ended is left alone.

    A failure is written to the round with the time of its next try, then raised; a stop puts the round back.
    """
    from maskloop_learner.train.loop import TrainingCancelled

    plan = _begin(pool, round_id, settings)
    if plan is None:
        return
    with _hold(plan.folder):
        try:
            _train_and_publish(pool, plan, settings, report, should_stop)
        except TrainingCancelled:
            _put_back(pool, plan)
            return
        except Exception as error:
            _note_failure(pool, plan, error)
            raise
        # Only a round that has ended needs its checkpoint no more.
        shutil.rmtree(plan.folder, ignore_errors=True)


def cancel(pool: Pool, round_id: int, *, by: str) -> bool:
    """End a round that has not ended yet; its job stops at the next step. Returns whether there was one."""
    with pool.write() as session:
        row = session.get(Round, round_id)
        if row is None or row.state not in ("queued", "running"):
            return False
        row.state, row.reason, row.ended_at = "cancelled", f"cancelled by {by}", utcnow()
        record(session, "round.cancelled", project_id=row.project_id, subject=str(round_id), data={"by": by})
        return True


class Reporter:
    """Carries progress to the pool, and a cancellation from it, at most once a second."""

    def __init__(self, *, pool: Pool, round_id: int, report: Report, should_stop: Callable[[], bool]) -> None:
        self._pool, self._round_id = pool, round_id
        self._report, self._should_stop = report, should_stop
        self._next, self._cancelled = 0.0, False
        self._doing = ""

    def progress(self, state: dict[str, Any]) -> None:
        """Pass `state` on; it also says whether somebody ended the round meanwhile."""
        self._report(state)
        if time.monotonic() < self._next and state["step"] < state["steps"]:
            return
        self._next = time.monotonic() + 1.0
        with self._pool.write() as session:
            row = session.get_one(Round, self._round_id)
            row.progress = state
            self._cancelled = row.state == "cancelled"

    def tick(self, what: str, done: int, of: int) -> None:
        """Say that the work after the last step gets on. Raises TrainingCancelled when it should end."""
        from maskloop_learner.train.loop import TrainingCancelled

        if self.stopped():
            raise TrainingCancelled(f"cancelled during {what}, {done} of {of} images")
        if what != self._doing:
            log.info("round %d: %s on %d images", self._round_id, what, of)
            self._doing = what

    def stopped(self) -> bool:
        """Whether the training should end now."""
        return self._cancelled or self._should_stop()


def _begin(pool: Pool, round_id: int, settings: Settings) -> Plan | None:
    with pool.write() as session:
        row = session.get_one(Round, round_id)
        if row.state not in ("queued", "running"):
            log.info("round %d has ended already (%s)", round_id, row.state)
            return None
        if row.attempts - row.failures >= MAX_DEATHS:
            row.state, row.ended_at = "failed", utcnow()
            row.reason = f"gave up: the training process was killed {MAX_DEATHS} times; is there enough memory?"
            record(
                session, "round.failed", project_id=row.project_id, subject=str(round_id), data={"reason": row.reason}
            )
            return None
        row.attempts += 1
        row.state, row.retry_at, row.started_at = "running", None, row.started_at or utcnow()
        record(
            session, "round.started", project_id=row.project_id, subject=str(round_id), data={"attempt": row.attempts}
        )
        project_id, snapshot = row.project_id, session.get_one(Snapshot, row.snapshot_id)
    folder = settings.home / "training" / f"round-{round_id}"
    return Plan(round_id, project_id, snapshot.id, load_manifest(pool, snapshot), folder)


@contextmanager
def _hold(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            # The kernel frees this lock when the holder is killed, whatever Redis believes.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RoundBusy(f"another process is at work in {folder}; it goes on") from error
        yield


def _train_and_publish(
    pool: Pool, plan: Plan, settings: Settings, report: Report, should_stop: Callable[[], bool]
) -> None:
    from maskloop_learner.model.bases import BackboneError, Bases
    from maskloop_learner.model.checkpoint import CheckpointError
    from maskloop_learner.train.loop import Progress, train

    reporter = Reporter(pool=pool, round_id=plan.round_id, report=report, should_stop=should_stop)

    def on_progress(progress: Progress) -> None:
        reporter.progress({"step": progress.step, "steps": progress.steps, "loss": progress.loss, "eta": progress.eta})

    examples = {side: load_examples(pool, plan.manifest, side) for side in ("train", "validation")}
    bases = Bases(settings.bases_folder)
    labels, templates = plan.manifest["labels"], plan.manifest["prompts"]
    weights = train(
        examples["train"],
        backbone=settings.backbone,
        labels=labels,
        prompts=default_prompts(labels, templates),
        negatives={label: text for label in labels if (text := render_negative(label, templates))},
        prompt_dropout=settings.prompt_dropout,
        steps=settings.train_steps,
        batch=settings.train_batch,
        seed=settings.train_seed,
        device=settings.device,
        checkpoint=plan.folder / "checkpoint.pt",
        checkpoint_steps=settings.checkpoint_steps,
        on_progress=on_progress,
        should_stop=reporter.stopped,
        bases=bases,
        precision=settings.precision,
    )
    trial = Trial(pool=pool, manifest=plan.manifest, settings=settings, tick=reporter.tick)
    predictor = trial.load(weights)
    challenger = trial.validate(predictor, examples["validation"])
    with pool.read() as session:
        champion = session.get(Champion, plan.project_id)
        fence = champion.fence if champion else 0
        rival = session.get_one(Model, champion.model_id) if champion else None
    # Champion and challenger are compared on the very same images, in the same order, with the same samples.
    old = None
    if rival is not None and set(plan.manifest["labels"]) <= set(rival.labels):
        rivals_weights = pool.store.get("weights", rival.weights_digest)
        try:
            old = trial.validate(trial.load(rivals_weights), examples["validation"])
        except (CheckpointError, BackboneError) as error:
            # Made by another release: it predicts nothing any more, and must not stand in the way for ever.
            log.warning("round %d: the champion cannot be compared with: %s", plan.round_id, error)
    decision = decide(champion=old, challenger=challenger, margin=settings.gate_margin)
    found = trial.examine(predictor, examples["validation"]) if decision.promote else None
    _publish(pool, plan, settings, weights, decision, found, fence=fence, parent=rival.id if rival else None)


def _publish(
    pool: Pool,
    plan: Plan,
    settings: Settings,
    weights: bytes,
    decision: Decision,
    found: "Examination | None",
    *,
    fence: int,
    parent: int | None,
) -> None:
    digest = pool.store.put("weights", weights)
    with pool.write() as session:
        row = session.get_one(Round, plan.round_id)
        if row.state != "running":
            # A second execution of the same job, or a person, ended this round first: publish nothing twice.
            log.info("round %d ended elsewhere (%s); this outcome is dropped", plan.round_id, row.state)
            return
        project = session.get_one(Project, plan.project_id)
        champion = session.get(Champion, plan.project_id)
        if decision.promote and champion is not None and champion.pinned and champion.changed_at > row.created_at:
            said = f"{champion.changed_by} pinned the champion while this trained; labels from then on count"
            decision = replace(decision, promote=False, reason=said)
        model = Model(
            project_id=plan.project_id,
            weights_digest=digest,
            backbone=settings.backbone,
            labels=plan.manifest["labels"],
            snapshot_id=plan.snapshot_id,
            parent_id=parent,
            config=_config(settings, found),
            metrics={"validation": decision.figures, "decision": decision.reason, **(found.to_dict() if found else {})},
        )
        session.add(model)
        session.flush()
        row.model_id, row.ended_at, row.reason = model.id, utcnow(), decision.reason
        row.state = "promoted" if decision.promote else "rejected"
        if decision.promote:
            version = ensure_version(session, project, model, settings)
            try:
                set_champion(
                    session,
                    project_id=project.id,
                    model_id=model.id,
                    version_id=version,
                    fence=fence,
                    by=f"round {plan.round_id}",
                )
            except ChampionConflict as conflict:
                row.state, row.reason = "rejected", f"{conflict}; it was compared with the champion before that"
        record(
            session,
            f"round.{row.state}",
            project_id=project.id,
            subject=str(plan.round_id),
            data={"reason": row.reason, "model": model.id, "figures": decision.figures},
        )


def _config(settings: Settings, found: "Examination | None") -> dict[str, Any]:
    config: dict[str, Any] = {
        "steps": settings.train_steps,
        "batch": settings.train_batch,
        "seed": settings.train_seed,
        "temperature": found.temperature if found else 1.0,
    }
    if found is not None and found.sampling is not None:
        chosen = found.sampling
        config["ranking"] = {"method": chosen.method, "samples": chosen.samples, "of_samples": settings.samples}
    return config


def _put_back(pool: Pool, plan: Plan) -> None:
    with pool.write() as session:
        row = session.get_one(Round, plan.round_id)
        if row.state == "running":
            # Nothing went wrong: the worker was asked to end, and the checkpoint waits for the next one.
            row.state, row.attempts = "queued", row.attempts - 1


def _note_failure(pool: Pool, plan: Plan, error: Exception) -> None:
    with pool.write() as session:
        row = session.get_one(Round, plan.round_id)
        if row.state != "running":
            return
        row.reason = f"{type(error).__name__}: {error}"
        row.failures += 1
        if row.failures >= MAX_FAILURES:
            row.state, row.ended_at = "failed", utcnow()
        else:
            row.state, row.retry_at = "queued", utcnow() + BACKOFF[row.failures - 1]
        data = {"reason": row.reason, "failures": row.failures, "retry_at": str(row.retry_at or "")}
        record(session, "round.failed", project_id=row.project_id, subject=str(plan.round_id), data=data)
