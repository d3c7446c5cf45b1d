"""Training under attack: killed, out of disk, out of memory, fed with what is not a number, told to end."""

import errno
import hashlib
import logging
import math
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import pytest
import torch
from training_script import PROMPTS, arguments, example
from valkey_fixture import FLOORS

from maskloop_learner.model.backbones import BACKBONES
from maskloop_learner.model.checkpoint import CheckpointError
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.train import batches, gradients, loop, steps
from maskloop_learner.train.augment import Augmentation
from maskloop_learner.train.batches import Batch, StepConfig, ask
from maskloop_learner.train.examples import gather_examples
from maskloop_learner.train.loop import Example, Progress, TrainingCancelled, TrainingError, WarmStart, train
from maskloop_learner.train.resume import clear_leftovers, read_state, write_state
from maskloop_learner.train.steps import Room, take_step

SCRIPT = Path(__file__).with_name("training_script.py")


def run(folder: Path, kind: str = "plain", steps: int = 6, **changes: Any) -> bytes:
    return train(**arguments(folder, kind, steps) | changes)


def killed_and_resumed(folder: Path, kind: str, steps: int, at: Sequence[int], chance: random.Random) -> str:
    """Kill -9 a training after each of the steps and a moment, then let it end; the digest of its weights."""
    command = [sys.executable, str(SCRIPT), str(folder), kind, str(steps)]
    env = {**os.environ, "PYTHONPATH": FLOORS, "OMP_NUM_THREADS": "1"}
    for step in at:
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for line in child.stdout:
                if int(line) >= step:
                    break
            time.sleep(chance.uniform(0, 0.1))
            child.kill()
        assert child.returncode == -9
    said = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=True).stdout.split()
    assert int(said[0]) > 1, "the last process began anew"
    return said[-1]


@pytest.mark.slow
def test_kill_9_changes_no_bit(tmp_path: Path) -> None:
    """A real process, killed while it steps, looks at held-out images or writes its checkpoint (after every step)."""
    whole = run(tmp_path / "whole", "stopping")
    chance = random.Random(os.getpid())
    found = killed_and_resumed(tmp_path / "killed", "stopping", 6, [chance.randint(2, 4)], chance)
    assert found == hashlib.sha256(whole).hexdigest()
    assert [p.name for p in (tmp_path / "killed").iterdir()] == ["checkpoint.pt"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "stopping", "warm"])
def test_many_kills_change_no_bit(tmp_path: Path, kind: str) -> None:
    (tmp_path / "first").write_bytes(run(tmp_path / "before", steps=2))
    whole = run(tmp_path / "whole", kind, steps=30)
    chance = random.Random(7)
    at = sorted(chance.sample(range(2, 26), 3))
    assert killed_and_resumed(tmp_path / "killed", kind, 30, at, chance) == hashlib.sha256(whole).hexdigest()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that a nano's checkpoint does not fit into twice."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_costs_the_checkpoint_but_not_the_training(
    small_disk: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The old checkpoint stays readable, nothing half written stays, and the result is the same."""
    whole = run(tmp_path / "whole")
    checkpoint = small_disk / "checkpoint.pt"

    def fill(progress: Progress) -> None:
        if progress.step == 2:
            with pytest.raises(OSError, match="No space left"), open(small_disk / "other", "wb", buffering=0) as file:
                while file.write(b"x" * 2**20):
                    pass

    with caplog.at_level(logging.WARNING):
        assert run(small_disk, on_progress=fill) == whole
    said = [m for m in caplog.messages if "cannot be written" in m]
    assert len(said) == 4
    assert "No space left" in said[0]
    assert "starts again from step 2" in said[-1]
    assert sorted(p.name for p in small_disk.iterdir()) == ["checkpoint.pt", "other"]
    (small_disk / "other").unlink()
    seen: list[int] = []
    assert run(small_disk, on_progress=lambda p: seen.append(p.step)) == whole
    assert seen == [3, 4, 5, 6]
    assert checkpoint.stat().st_size > 1e6


def test_a_write_that_fails_keeps_the_old_state_and_its_own_error(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    write_state(path, {"run": "a", "step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))
    try:
        with pytest.raises(OSError) as caught:
            write_state(path, {"run": "a", "step": 2, "model": torch.zeros(2**20)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert (read_state(path, run="a") or {})["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]
    (tmp_path / ".checkpoint.pt.abc").write_bytes(b"half")
    clear_leftovers(path)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def greedy(most: int, error: Exception, sizes: list[int]) -> Callable[..., Any]:
    """`ask` on a device that holds so many images."""

    def limited(model: Any, batch: Batch, how: Any) -> Any:
        if len(batch.chosen) > most:
            raise error
        sizes.append(len(batch.chosen))
        return ask(model, batch, how)

    return limited


def step_of(examples: list[Example], room: Room) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of one step on all examples."""
    model = MedCLIPSeg(BACKBONES["nano"]).train()
    data = gather_examples(examples, labels=list(PROMPTS), size=model.spec.image_size)
    learning = [p for p in model.parameters() if p.requires_grad]
    loss = take_step(
        model,
        torch.optim.SGD(learning, lr=0.0),
        learning,
        data,
        list(range(len(examples))),
        model.tokens(list(PROMPTS.values())),
        StepConfig(augmentation=Augmentation()),
        torch.Generator().manual_seed(0),
        room=room,
    )
    return loss, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_out_of_memory_halves_the_batch_for_the_same_gradient(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """That of the whole batch, contrast included, up to rounding; also where labels are unknown."""
    examples = [example(k) for k in range(5)]
    examples[2] = Example(examples[2].image, examples[2].masks, "half known", known=frozenset({"Disc"}))
    whole, gradients_whole = step_of(examples, Room())
    sizes: list[int] = []
    monkeypatch.setattr(gradients, "ask", greedy(2, error, sizes))
    room = Room()
    with caplog.at_level(logging.WARNING):
        parts, gradients_parts = step_of(examples, room)
    assert sizes == [2, *[1, 1, 1, 2] * 2]
    assert room.parts == 4
    assert [m.partition("from now on ")[2] for m in caplog.messages if "out of memory" in m] == [
        f"{n} images at a time, for the same result" for n in (3, 2)
    ]
    assert parts == pytest.approx(whole, abs=1e-6)
    assert gradients_parts.keys() == gradients_whole.keys()
    for name, grad in gradients_whole.items():
        torch.testing.assert_close(gradients_parts[name], grad, rtol=1e-3, atol=2e-6, msg=name)


def test_out_of_memory_with_one_image_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def hungry(model: Any, batch: Batch, how: Any) -> Any:
        seen.append(model.checkpointing)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(gradients, "ask", hungry)
    with pytest.raises(TrainingError, match=r"single image and its 2 labels .*MASKLOOP_PRECISION"):
        run(tmp_path)
    assert seen == [False, False, False, True]


LIMITED = """
import logging, resource, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
from training_script import PROMPTS, arguments, example
from maskloop_learner.train.loop import train
from maskloop_learner.model.memory import keep_freed_memory
keep_freed_memory()
logging.basicConfig(level="WARNING")
torch.set_num_threads(1)
ballast = []  # else what step 1 has freed, and the allocator keeps, is enough for step 2, or nearly: it differs
def limit(progress):
    if progress.step == 1:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (used, -1))
        try:
            while True:
                ballast.append(torch.zeros(2**18))
        except RuntimeError:
            resource.setrlimit(resource.RLIMIT_AS, (used + {spare}, -1))
    print(progress.loss, flush=True)
how = arguments(Path({folder!r}), "plain", 3) | {{"on_progress": limit, "batch": 24, "checkpoint_steps": 9}}
train(**how)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the address space")
def test_a_process_whose_memory_is_limited_goes_on_in_parts(tmp_path: Path) -> None:
    """A real limit on a real allocator."""
    expected: list[float] = []
    run(tmp_path / "whole", steps=3, batch=24, on_progress=lambda p: expected.append(p.loss))
    code = LIMITED.format(tests=str(SCRIPT.parent), spare=350 * 2**20, folder=str(tmp_path / "limited"))
    env = {**os.environ, "PYTHONPATH": FLOORS, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "from now on 12 images at a time" in done.stderr, done.stderr
    losses = [float(line) for line in done.stdout.split()]
    assert losses == pytest.approx(expected, abs=2e-3)


def test_images_and_not_the_whole_batch_are_named_where_a_loss_is_not_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint before it is as it was, so that the training goes on when the images are repaired."""

    def poisoned(*args: Any, **how: Any) -> Any:
        data = gather_examples(*args, **how)
        object.__setattr__(data, "masks", data.masks.float())
        for name in bad:
            data.masks[data.names.index(name)] = math.nan
        return data

    monkeypatch.setattr(loop, "gather_examples", poisoned)
    bad = ["image-3", "image-8"]
    with pytest.raises(TrainingError, match=r"not finite \(nan, nan\) on image-3, image-8; look at these"):
        run(tmp_path / "two", batch=24, steps=1)
    bad = [f"image-{k}" for k in range(24)]
    with pytest.raises(TrainingError, match=r"on all images of the step: image-\d+, .*the weights have run away"):
        run(tmp_path / "all")
    bad = ["image-5"]
    seen: list[int] = []
    with pytest.raises(TrainingError, match=r"on image-5;"):
        run(tmp_path / "one", on_progress=lambda p: seen.append(p.step))
    assert seen, "the damaged image came first: the test shows nothing"
    state = torch.load(tmp_path / "one/checkpoint.pt", weights_only=True)
    assert state["step"] == len(seen)
    assert all(bool(x.isfinite().all()) for x in state["model"].values())


def test_damaged_weights_are_named_and_not_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model to start from, before the first step; of the model itself, at the step."""
    first = run(tmp_path / "first", steps=1)
    broken = bytearray(first)
    broken[-4:] = b"\xff\xff\xff\xff"
    with pytest.raises(CheckpointError, match=r"values that are not finite"):
        run(tmp_path / "warm", warm=WarmStart(initial=bytes(broken)))
    with pytest.raises(CheckpointError, match="not a Maskloop safetensors file"):
        run(tmp_path / "warm", warm=WarmStart(initial=first[:50]))
    take = batches.draw_batch

    def damage(model: Any, *args: Any) -> Any:
        with torch.no_grad():
            model.head.mask_head[0].weight[0, 0] = math.nan
        return take(model, *args)

    monkeypatch.setattr(steps, "draw_batch", damage)
    with pytest.raises(TrainingError, match="because the weights are not: they were damaged; train again"):
        run(tmp_path / "torn")


class Slow(Sequence[Example]):
    """A thousand images, read when they are asked for."""

    def __init__(self, read: list[int]) -> None:
        self._read = read

    def __len__(self) -> int:
        return 1000

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> list[Example]: ...
    def __getitem__(self, place: int | slice) -> Example | list[Example]:
        assert isinstance(place, int)
        self._read.append(place)
        return example(place)


def test_reading_a_thousand_images_can_be_ended(tmp_path: Path) -> None:
    read: list[int] = []
    with pytest.raises(TrainingCancelled, match="while images were read, 20 of 1000"):
        run(tmp_path, examples=Slow(read), should_stop=lambda: len(read) == 20)
    assert read == list(range(20))


def stop_after(calls: int) -> Callable[[], bool]:
    """A wish to end that comes at the n-th look."""
    left = iter(range(calls))
    return lambda: next(left, None) is None


def test_a_training_ends_at_the_next_stage_and_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """Wherever it is: between images, in a forward or backward pass, in a look at held-out images."""
    kind = "stopping"
    whole = run(tmp_path / "whole", kind, checkpoint_steps=100)
    looks = 0

    def count() -> bool:
        nonlocal looks
        looks += 1
        return False

    run(tmp_path / "counted", kind, should_stop=count)
    assert looks > 24 + 6 * 4
    where = set()
    for calls in random.Random(0).sample(range(26, looks), 4):
        folder = tmp_path / f"ended-{calls}"
        with pytest.raises(TrainingCancelled) as said:
            run(folder, kind, should_stop=stop_after(calls), checkpoint_steps=100)
        where.add(str(said.value))
        assert run(folder, kind) == whole
    assert len(where) > 1


@pytest.mark.slow
def test_a_long_step_ends_within_it(tmp_path: Path) -> None:
    """A step of many images: told to end in its forward or backward pass, it does not wait for its end."""
    big: dict[str, Any] = {"batch": 60, "steps": 1}
    started = time.monotonic()
    run(tmp_path / "whole", **big)
    whole = time.monotonic() - started
    for calls in (26, 28):
        stop = stop_after(calls)
        told: list[float] = []

        def should_stop(stop: Callable[[], bool] = stop, told: list[float] = told) -> bool:
            if stop():
                told.append(time.monotonic())
                return True
            return False

        with pytest.raises(TrainingCancelled):
            run(tmp_path / str(calls), should_stop=should_stop, **big)
        assert time.monotonic() - told[0] < whole / 2


def test_ten_thousand_prompts_can_be_ended(tmp_path: Path) -> None:
    own = [
        Example(e.image, e.masks, e.name, prompts={"Disc": f"disc number {k} of many"})
        for k, e in enumerate(example(k % 24) for k in range(300))
    ]
    with pytest.raises(TrainingCancelled, match="before the first step"):
        run(tmp_path, examples=own, should_stop=stop_after(302))


def test_sizes_may_be_anything(tmp_path: Path) -> None:
    """From one pixel to panoramas, in one snapshot."""
    sizes = [(1, 1), (1, 300), (300, 1), (17, 2000), (1024, 1024), (5, 7)]
    images = [
        Example(np.full((*size, 3), 20 * k, dtype=np.uint8), {"Disc": np.ones(size, dtype=np.bool_)}, f"image-{k}")
        for k, size in enumerate(sizes)
    ]
    losses: list[float] = []
    run(tmp_path, examples=images, batch=6, steps=2, on_progress=lambda p: losses.append(p.loss))
    assert all(math.isfinite(loss) for loss in losses)
