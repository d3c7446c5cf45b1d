"""A training over two processes: the weights of one, and nothing left when it is ended, killed or fails."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from training_script import arguments, example
from valkey_fixture import FLOORS, wait_until

from maskloop_learner.model.backbones import BACKBONES
from maskloop_learner.model.checkpoint import load_weights, read_meta
from maskloop_learner.model.start import build_start
from maskloop_learner.train.augment import Augmentation
from maskloop_learner.train.course import Progress
from maskloop_learner.train.examples import Example, TrainingCancelled, TrainingError
from maskloop_learner.train.loop import gather, train
from maskloop_learner.train.recipe import Recipe, WarmStart
from maskloop_queue.ranks import train_together

pytestmark = pytest.mark.slow


def recipe_of(**changes: Any) -> Recipe:
    """That of the training script's trainings, of 6 steps."""
    said = arguments(Path("unused"), "plain", 6)
    names = ("backbone", "labels", "prompts", "steps", "batch", "seed", "device", "checkpoint_steps")
    return Recipe(**{name: said[name] for name in names} | changes)


def some() -> list[Example]:
    """One of them knows of one label only."""
    found = [example(k) for k in range(24)]
    found[3] = Example(found[3].image, found[3].masks, "half known", known=frozenset({"Disc"}))
    return found


def together(folder: Path, recipe: Recipe, **how: Any) -> bytes:
    folder.mkdir(exist_ok=True)
    settled: dict[str, Any] = {"processes": 2, "threads": 2, "bases": None, "should_stop": lambda: False}
    settled |= {"on_progress": lambda _: None, "checkpoint": folder / "checkpoint.pt"}
    data = gather(how.pop("examples", None) or some(), recipe, lambda: False)
    return train_together(data, recipe, **settled | how)


def alone(folder: Path, **changes: Any) -> bytes:
    return train(**arguments(folder, "plain", 6) | {"examples": some()} | changes)


@pytest.fixture(autouse=True)
def path_of_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", FLOORS)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def strayed(one: bytes, two: bytes) -> float:
    """How far apart two trainings' weights are, as a share of the way that the first came from its start (L2).

    Adam divides by the gradient's own size: where a gradient is rounding alone, the sign of a step is chance, and some
    weights end two learning rates apart. They are few, and matter as little as their gradients.
    """
    begun = build_start(BACKBONES["nano"], seed=0, start="pretrained")
    first, second, start = (
        torch.cat([p.detach().flatten() for p in model.parameters()])
        for model in (load_weights(one, device="cpu"), load_weights(two, device="cpu"), begun)
    )
    return float((second - first).norm() / (first - start).norm())


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_two_processes_learn_what_one_does(tmp_path: Path, batch: int) -> None:
    """Losses of all steps and the weights; also when one of the two has nothing to do."""
    losses: list[float] = []
    whole = alone(tmp_path / "one", batch=batch, on_progress=lambda p: losses.append(p.loss))
    last: list[Progress] = []
    weights = together(tmp_path / "two", recipe_of(batch=batch), on_progress=last.append)
    assert last[-1].step == 6
    print(f"batch {batch}: loss {abs(last[-1].loss - losses[-1]):.2g}, weights stray {strayed(whole, weights):.2g}")
    assert last[-1].loss == pytest.approx(losses[-1], abs=2e-3)
    assert strayed(whole, weights) < 0.02
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == ["checkpoint.pt"]


def test_the_first_steps_gradient_is_that_of_one_process(tmp_path: Path) -> None:
    """Adam's first moment after one step is a tenth of the gradient: equal up to rounding, contrast included."""
    alone(tmp_path / "one", steps=1, batch=5)
    recipe = recipe_of(steps=1, batch=5)
    together(tmp_path / "two", recipe)
    found = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["optimizer"] for name in ("one", "two")]
    one, two = ({k: state["exp_avg"] for k, state in each["state"].items()} for each in found)
    worst = max(float((two[k] - value).abs().max()) for k, value in one.items())
    print(f"gradients differ by {10 * worst:.2g} of {10 * max(float(v.abs().max()) for v in one.values()):.2g}")
    assert worst < 1e-7
    assert all(not bool(two[k].any()) for k in two.keys() - one.keys())


def test_a_warm_start_with_early_stopping_is_shared_too(tmp_path: Path) -> None:
    warm = WarmStart(initial=alone(tmp_path / "first", steps=2), fresh=frozenset(range(5)))
    whole = alone(tmp_path / "one", patience=2, warm=warm)
    weights = together(tmp_path / "two", recipe_of(patience=2), warm=warm)
    print(f"weights stray {strayed(whole, weights):.2g}")
    assert strayed(whole, weights) < 0.02
    assert read_meta(whole)["best_step"] == read_meta(weights)["best_step"]


def processes_of(folder: Path) -> list[psutil.Process]:
    """All that work in a folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in part for part in process.info["cmdline"] or []):
            found.append(process)
    return found


def test_a_wish_to_end_is_met_within_five_seconds_and_the_training_goes_on_later(tmp_path: Path) -> None:
    folder = tmp_path / "two"
    recipe = recipe_of(steps=400)
    asked: list[float] = []
    seen: list[int] = []

    def should_stop() -> bool:
        if len(seen) >= 3:
            asked.append(time.monotonic())
        return bool(asked)

    with pytest.raises(TrainingCancelled):
        together(folder, recipe, should_stop=should_stop, on_progress=lambda p: seen.append(p.step))
    took = time.monotonic() - asked[0]
    print(f"ended in {took:.2f} s")
    assert took < 5
    assert processes_of(folder) == []
    done = torch.load(folder / "checkpoint.pt", weights_only=True)["step"]
    again: list[int] = []
    with pytest.raises(TrainingCancelled):
        together(folder, recipe, should_stop=lambda: bool(again), on_progress=lambda p: again.append(p.step))
    assert again[0] > done >= seen[-1] - 1


def test_a_process_that_dies_ends_all_and_an_error_comes_back_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "two"
    recipe = recipe_of(steps=10_000)
    started = threading.Event()

    def kill() -> None:
        started.wait(120)
        ranks = [p for p in processes_of(folder) if "torch.distributed.run" not in p.cmdline()]
        ranks[-1].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(TrainingError, match="a process of the training over 2 died"):
        together(folder, recipe, on_progress=lambda p: started.set())
    killer.join()
    assert processes_of(folder) == []
    wild = recipe_of(augmentation=Augmentation(gamma=math.nan))
    with pytest.raises(TrainingError, match="not finite"):
        together(tmp_path / "wild", wild)


PARENT = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import test_distributed as t
t.together(Path({folder!r}), t.recipe_of(steps=10_000), on_progress=lambda p: print(p.step, flush=True))
"""


@pytest.mark.parametrize("victim", ["parent", "torchrun"])
def test_nothing_outlives_the_process_that_asked_for_it(tmp_path: Path, victim: str) -> None:
    folder = tmp_path / "two"
    code = PARENT.format(tests=str(Path(__file__).parent), folder=str(folder))
    env = {**os.environ, "PYTHONPATH": FLOORS}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline()
        assert len(processes_of(folder)) >= 3
        if victim == "parent":
            parent.kill()
        else:
            next(p for p in processes_of(folder) if "torch.distributed.run" in p.cmdline()).send_signal(signal.SIGKILL)
        wait_until("all processes of the training are gone", lambda: not processes_of(folder), timeout=15)
        parent.kill()
