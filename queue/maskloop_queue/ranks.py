"""A training over several processes: started with torchrun, watched, ended with the process that asked for it.

`python -m maskloop_queue.ranks FOLDER` is one of the processes, as torchrun starts it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from maskloop_queue.processes import die_with_parent, set_threads

if TYPE_CHECKING:
    from maskloop_learner.train.course import Progress
    from maskloop_learner.train.examples import ExampleSet
    from maskloop_learner.train.recipe import Recipe, WarmStart

THREADS = "MASKLOOP_RANK_THREADS"
POLL = 0.1
GRACE = 3.0
"""Seconds that the processes have to end at the top of a step, with a checkpoint; then they are killed."""


def train_together(
    data: "ExampleSet",
    recipe: "Recipe",
    *,
    processes: int,
    threads: int,
    checkpoint: Path,
    bases: Path | None,
    on_progress: "Callable[[Progress], None]",
    should_stop: Callable[[], bool],
    warm: "WarmStart | None" = None,
) -> bytes:
    """`fit` over several processes of this machine, which share `threads` CPU threads; the weights.

    Raises what `fit` does, and TrainingError when one of the processes dies: all then end.
    """
    from maskloop_learner.train.course import Progress
    from maskloop_learner.train.distributed import SAID, write_job
    from maskloop_learner.train.examples import TrainingCancelled, TrainingError

    folder = checkpoint.parent / "ranks"
    write_job(folder, data, recipe, checkpoint=checkpoint, bases=bases, warm=warm)
    seen = None
    with _start(folder, processes, max(1, threads // processes)) as team:
        try:
            while team.poll() is None:
                if should_stop():
                    (folder / "stop").touch()
                    _wait(team, GRACE)
                    raise TrainingCancelled("cancelled; the checkpoint holds what was learnt so far")
                if (found := _read(folder / "progress.json")) is not None and found != seen:
                    seen = found
                    on_progress(Progress(**json.loads(found)))
                time.sleep(POLL)
        finally:
            _end(team)
    if (end := _read(folder / "end.json")) is not None:
        said = json.loads(end)
        raise SAID[said["kind"]](said["said"])
    weights = _read(folder / "weights")
    if team.returncode or weights is None:
        raise TrainingError(f"a process of the training over {processes} died; its last words are in the worker's log")
    if (found := _read(folder / "progress.json")) is not None and found != seen:
        on_progress(Progress(**json.loads(found)))
    shutil.rmtree(folder, ignore_errors=True)
    return weights


def _start(folder: Path, processes: int, threads: int) -> "subprocess.Popen[bytes]":
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [*torchrun, "-m", "maskloop_queue.ranks", str(folder)]
    env = {**os.environ, THREADS: str(threads), "OMP_NUM_THREADS": str(threads)}
    # torchrun dies with this process, and its processes with torchrun (below).
    return subprocess.Popen([sys.executable, "-m", "maskloop_queue.processes", *command], env=env)


def _end(team: "subprocess.Popen[bytes]") -> None:
    if team.poll() is None:
        team.terminate()
        _wait(team, 1.0)
        team.kill()
    team.wait()


def _wait(team: "subprocess.Popen[bytes]", seconds: float) -> None:
    until = time.monotonic() + seconds
    while team.poll() is None and time.monotonic() < until:
        time.sleep(POLL)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def main() -> None:
    """One process of the team."""
    die_with_parent(signal.SIGKILL, parent=os.getppid())
    set_threads(int(os.environ.get(THREADS, "1")))
    from maskloop_learner.train.distributed import run_rank

    run_rank(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
