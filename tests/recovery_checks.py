"""What must hold after any fault, once the loop is at rest."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from recovery_fixture import Annotator, Loop
from sqlalchemy import func, select

from maskloop_learner.model.checkpoint import load_weights
from maskloop_learner.pool.schema import Champion, Event, Model, Round

SETTLE = 300.0
MARKS = (".tmp-", ".checkpoint.pt.")
SWEEP = 120.0
"""Seconds after which what a killed process left half written must be gone."""


def broken(loop: Loop, annotator: Annotator) -> list[str]:
    """What does not hold, in words; empty when all does."""
    return [*lost_labels(loop, annotator), *bad_champion(loop), *bad_publications(loop), *orphans(loop)]


def lost_labels(loop: Loop, annotator: Annotator) -> list[str]:
    """Annotations that Label Studio said yes to and that are not there. That the pool has all that Label Studio has
    is part of being at rest."""
    with loop.client() as client:
        tasks = client.changed_tasks(loop.ls_id, None).tasks
    heads = {head.id: head.updated_at for task in tasks for head in task.annotations}
    saved = {number: at for number, at in annotator.saved.items() if number not in annotator.removed}
    gone = [f"annotation {number} is lost" for number in saved if number not in heads]
    return gone + [f"annotation {n} is older than saved" for n, at in saved.items() if n in heads and heads[n] < at]


def bad_champion(loop: Loop) -> list[str]:
    """Whether the champion's weights are there and whole."""
    with loop.pool.read() as session:
        champion = session.get_one(Champion, loop.project().id)
        model = session.get_one(Model, champion.model_id)
    try:
        load_weights(loop.pool.store.get("weights", model.weights_digest), device="cpu")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the test reports
        return [f"the champion cannot be loaded: {error}"]
    return []


def bad_publications(loop: Loop) -> list[str]:
    """Fences grow by one, a round has one outcome, and at most one round is open."""
    with loop.pool.read() as session:
        events = session.scalars(select(Event).order_by(Event.id)).all()
        open_rounds = session.scalar(
            select(func.count(Round.id)).where(Round.project_id == loop.project().id, Round.ended_at.is_(None))
        )
    fences = [event.data["fence"] for event in events if event.kind == "champion.changed"]
    ended = ("round.promoted", "round.shadow", "round.rejected", "round.cancelled")
    outcomes = [event.subject for event in events if event.kind in ended]
    found = [] if fences == list(range(1, len(fences) + 1)) else [f"fences are {fences}"]
    found += [f"round {subject} ended twice" for subject in set(outcomes) if outcomes.count(subject) > 1]
    return found + ([f"{open_rounds} rounds are open"] if open_rounds and open_rounds > 1 else [])


def orphans(loop: Loop) -> list[str]:
    """Processes of the installation that do not hang below its supervisor."""
    assert loop.process is not None
    family = {loop.process.pid} | {p.pid for p in psutil.Process(loop.process.pid).children(recursive=True)}
    strays = [process for process in loop.processes() if process.pid not in family]
    return [f"process {p.pid} is an orphan: {' '.join(p.cmdline())[:120]}" for p in strays]


def leaked_files(loop: Loop) -> list[Path]:
    """Half-written files."""
    return [path for path in loop.home.rglob("*") if any(mark in path.name for mark in MARKS)]


def wait_for_sweep(loop: Loop) -> list[str]:
    """Temporary files that are still there after the time in which they must go."""
    end = time.monotonic() + SWEEP
    while (left := leaked_files(loop)) and time.monotonic() < end:
        time.sleep(1.0)
    return [f"{path} was left behind" for path in left]


@contextmanager
def one_training_at_most(loop: Loop) -> Iterator[list[int]]:
    """Count the training processes at work, all the time; the block's end raises when there were two at once."""
    most, done = [0], threading.Event()

    def look() -> None:
        while not done.wait(0.2):
            try:
                alive = [p for p in loop.service("horse") if p.status() != psutil.STATUS_ZOMBIE]
            except (psutil.NoSuchProcess, AssertionError):
                continue
            most[0] = max(most[0], len(alive))

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join(5)
