"""One training over several processes of a machine, one a GPU or on the CPU, started by torchrun.

Each process computes some images of each step, and the gradients are summed: the weights are those of one process up
to rounding. What the processes work on lies in a folder, and so does what they say:

    job.json, examples.pt, initial     what to do
    stop                               the first process is asked to end
    progress.json, weights, end.json   how far they are, the result, or what they ended with
"""

import json
import os
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pydantic import TypeAdapter
from torch import Tensor

from maskloop_learner.model.bases import BackboneError, Bases
from maskloop_learner.model.checkpoint import CheckpointError
from maskloop_learner.train.course import Job, Progress
from maskloop_learner.train.examples import ExampleSet, TrainingCancelled, TrainingError
from maskloop_learner.train.loop import fit
from maskloop_learner.train.recipe import Recipe, WarmStart
from maskloop_learner.train.team import Team

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others of a step: one of them hangs when it takes longer."""
SAID = {error.__name__: error for error in (TrainingError, TrainingCancelled, CheckpointError, BackboneError)}
RECIPE = TypeAdapter(Recipe)


class Ranks(Team):
    """The processes that torchrun started."""

    def __init__(self, device: torch.device) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._device = device

    def sum(self, tensor: Tensor) -> Tensor:
        """See `Team`."""
        dist.all_reduce(tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        """See `Team`."""
        return bool(self.sum(torch.tensor(float(flag), device=self._device)).item())

    def lead(self, flag: bool) -> bool:
        """See `Team`."""
        return self.any(flag and self.rank == 0)


def write_job(
    folder: Path, data: ExampleSet, recipe: Recipe, *, checkpoint: Path, bases: Path | None, warm: WarmStart | None
) -> None:
    """Put down what the processes of a training need."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("stop", "progress.json", "weights", "end.json", "initial"):
        (folder / name).unlink(missing_ok=True)
    # One file that all processes map: the images are in memory once.
    torch.save(dict(vars(data)), folder / "examples.pt")
    if warm is not None:
        (folder / "initial").write_bytes(warm.initial)
    fresh = None if warm is None or warm.fresh is None else sorted(warm.fresh)
    said = {"recipe": RECIPE.dump_python(recipe, mode="json"), "checkpoint": str(checkpoint)}
    said |= {"bases": bases and str(bases), "fresh": fresh, "replay": warm.replay if warm else 0.0}
    (folder / "job.json").write_text(json.dumps(said))


def run_rank(folder: Path) -> None:
    """The life of one process of the team. What it ends with is in the folder; an error is also raised."""
    said = json.loads((folder / "job.json").read_text())
    recipe = RECIPE.validate_python(said["recipe"])
    cuda = recipe.device in ("auto", "cuda") and torch.cuda.is_available()
    if cuda:
        recipe = replace(recipe, device=f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(recipe.device)
    elif recipe.device == "auto":
        recipe = replace(recipe, device="cpu")
    # All processes are on this machine, whatever its name resolves to.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        weights = fit(read_examples(folder), recipe, job_of(folder, said, recipe), warm=warm_of(folder, said))
        if dist.get_rank() == 0:
            replace_file(folder / "weights", weights)
    except tuple(SAID.values()) as error:
        replace_file(folder / "end.json", json.dumps({"kind": type(error).__name__, "said": str(error)}).encode())
        raise
    finally:
        dist.destroy_process_group()


def job_of(folder: Path, said: dict[str, Any], recipe: Recipe) -> Job:
    """How this process reports and is stopped: the first one through the folder, the others through the first."""
    leads = dist.get_rank() == 0

    def report(progress: Progress) -> None:
        if leads:
            replace_file(folder / "progress.json", json.dumps(asdict(progress)).encode())

    return Job(
        checkpoint=Path(said["checkpoint"]),
        on_progress=report,
        should_stop=lambda: leads and (folder / "stop").exists(),
        bases=Bases(Path(said["bases"]) if said["bases"] else None),
        team=Ranks(torch.device(recipe.device)),
    )


def read_examples(folder: Path) -> ExampleSet:
    """The examples, mapped and not read: pages come as they are used."""
    return ExampleSet(**torch.load(folder / "examples.pt", mmap=True, weights_only=True))


def warm_of(folder: Path, said: dict[str, Any]) -> WarmStart | None:
    """The model to go on from, if there is one."""
    if not (folder / "initial").exists():
        return None
    fresh = None if said["fresh"] is None else frozenset(said["fresh"])
    return WarmStart(initial=(folder / "initial").read_bytes(), fresh=fresh, replay=said["replay"])


def replace_file(path: Path, data: bytes) -> None:
    """Whole or not at all, for whoever reads meanwhile."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_bytes(data)
    os.replace(new, path)
