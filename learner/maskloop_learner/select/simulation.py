"""The grid of a simulation, strategies x seeds x rounds, spread over processes; what is finished is not done again."""

import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path

from maskloop_learner.select.plan import Plan, SimulationError, Step
from maskloop_learner.select.records import read_record

ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Read by libraries when they are loaded: processes, not threads, share the cores."""


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep other simulations out of the folder, which is made if need be. Raises SimulationError when one is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SimulationError(
                f"another simulation works in {folder}; wait for it or choose another --out"
            ) from error
        yield


def finished(plan: Plan) -> list[Step]:
    """The steps whose records are there."""
    return [step for step in plan.steps() if read_record(plan, step) is not None]


def prepare_nothing(parent: int) -> None:
    """What processes begin with where nothing else is asked for; by name, because they import it."""


def run_grid(
    plan: Plan,
    *,
    workers: int,
    on_step: Callable[[Step], None] = lambda step: None,
    prepare: Callable[[int], None] = prepare_nothing,
) -> None:
    """Do all steps that are not finished; `on_step` is told of each that is now.

    prepare: called in every process with the parent's id; it must be importable by name. Raises SimulationError naming
    the step that failed or the process that was killed. On KeyboardInterrupt the processes end within a stage of the
    model, after their trainings' checkpoints, and it is raised again; a repeated call goes on from there.
    """
    done = set(finished(plan))
    waiting = [step for step in plan.steps() if step not in done]
    if not waiting:
        return
    # On their way into the children's environment, before these load torch.
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    context = get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(
        min(workers, len(waiting)),
        mp_context=context,
        initializer=begin,
        initargs=(os.getpid(), stop, prepare),
    )
    running: dict[Future[None], Step] = {}
    try:
        while waiting or running:
            for step in [step for step in waiting if done.issuperset(plan.before(step))]:
                waiting.remove(step)
                running[pool.submit(work, plan, step)] = step
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                step = running.pop(future)
                _raise(future, step)
                done.add(step)
                on_step(step)
    except BrokenProcessPool as error:
        raise SimulationError(
            "a process of the simulation was killed, perhaps for want of memory; run the same command again, with "
            "fewer --workers if it happens again: it goes on where it was"
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _raise(future: Future[None], step: Step) -> None:
    error = future.exception()
    # BrokenProcessPool is a RuntimeError too, but no step's.
    if isinstance(error, OSError | RuntimeError | ValueError) and not isinstance(error, BrokenProcessPool):
        raise SimulationError(f"{step.name}: {error}") from error
    if error is not None:
        raise error


_stop: Event | None = None
"""Of this process, when it is one of a grid's."""


def begin(parent: int, stop: Event, prepare: Callable[[int], None]) -> None:
    """The first thing in every process of the grid."""
    global _stop
    _stop = stop
    # Ctrl-C reaches all processes of a terminal at once; these are told by the event, after their checkpoints.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare(parent)
    import torch

    from maskloop_learner.model.memory import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()


def work(plan: Plan, step: Step) -> None:
    """One step, in a process of the grid."""
    from maskloop_learner.select.campaign import run_step

    stop = _stop
    run_step(plan, step, should_stop=stop.is_set if stop is not None else lambda: False)
