"""A real worker process with a few more jobs: `python worker_script.py gpu|training`, settings from the environment."""

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maskloop_learner.settings import get_settings
from maskloop_queue.jobs import JOBS, resumable
from maskloop_queue.running import running
from maskloop_queue.workers import Kind, run_worker


def note(path: str, word: str, **more: Any) -> None:
    """Append a line that says what this process did."""
    with open(path, "a") as file:
        file.write(json.dumps({"word": word, "pid": os.getpid(), "parent": os.getppid(), **more}) + "\n")


def busy(path: str, seconds: float) -> None:
    """Work for `seconds`, showing progress all along."""
    note(path, "start")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        running().progress()
        time.sleep(0.05)
    note(path, "end")


def hang(path: str, seconds: float) -> None:
    """Show no progress for `seconds`."""
    note(path, "start")
    time.sleep(seconds)
    note(path, "end")


def fail(path: str) -> None:
    """Raise."""
    note(path, "start")
    raise ValueError("a job that fails")


def steps(path: str, count: int) -> Any:
    """Count to `count`, ten steps a second, going on after an interruption where it was."""
    checkpoint = Path(path + ".checkpoint")

    def work() -> None:
        done = int(checkpoint.read_text()) if checkpoint.exists() else 0
        note(path, "start", done=done)
        while done < count:
            if running().should_stop():
                raise InterruptedError("asked to stop")
            time.sleep(0.1)
            done += 1
            checkpoint.write_text(str(done))
            running().report({"step": done, "steps": count})
        note(path, "end")

    return resumable(work, name="steps")


def describe(path: str) -> None:
    """Say in what surroundings a job runs, after an import of torch."""
    before = "torch" in sys.modules
    import torch

    note(path, "start", nice=os.nice(0), torch_before=before, threads=torch.get_num_threads())
    time.sleep(1)


def keep(path: str, text: str) -> None:
    """Put a blob into the installation's store and read it back."""
    store = running().pool.store
    digest = store.put("manifests", text.encode())
    if store.get("manifests", digest) == text.encode():
        note(path, "kept", digest=digest)


EXTRA: dict[str, Callable[..., Any]] = {
    f"extra.{job.__name__}": job for job in (busy, hang, fail, steps, describe, keep)
}


def main(kind: Kind) -> int:
    """Run a worker."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    JOBS.update(EXTRA)
    return run_worker(kind, get_settings(), preload=None)


if __name__ == "__main__":
    assert sys.argv[1] in ("gpu", "training")
    sys.exit(main("gpu" if sys.argv[1] == "gpu" else "training"))
