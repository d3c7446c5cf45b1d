"""One training step, by the plain passes and in ours, each in a process of its own for its peak memory."""

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from maskloop_learner.bench.naive import NaiveMedCLIPSeg
from maskloop_learner.bench.subject import make_subject
from maskloop_learner.bench.timing import median_ratio
from maskloop_learner.model.backbones import find_backbone
from maskloop_learner.model.memory import keep_freed_memory
from maskloop_learner.train.losses import CONTRAST_WEIGHT, contrast_loss, segmentation_loss

MODES = ("naive", "ours", "bf16")
MEGA = 1024 if sys.platform.startswith("linux") else 1024 * 1024
"""ru_maxrss counts kilobytes on Linux, bytes on macOS."""


def bench_training(
    backbone: str, *, batch: int, repeats: int, threads: int, tick: Callable[[], None], modes: tuple[str, ...] = MODES
) -> dict[str, dict[str, Any]]:
    """Per mode ms per image of a step (forward, losses, backward, Adam), times faster than plain, peak memory in MB."""
    context = multiprocessing.get_context("spawn")
    workers: dict[str, tuple[Any, Connection]] = {}
    try:
        for mode in modes:
            here, there = context.Pipe()
            process = context.Process(target=run_steps, args=(there, backbone, mode, batch, threads), daemon=True)
            process.start()
            workers[mode] = process, here
        for _, pipe in workers.values():
            pipe.recv()
        seconds: dict[str, list[float]] = {mode: [] for mode in modes}
        for _ in range(repeats):
            for mode, (_, pipe) in workers.items():
                pipe.send("step")
                seconds[mode].append(pipe.recv())
                tick()
        peaks = {mode: ask(pipe, "peak") for mode, (_, pipe) in workers.items()}
    finally:
        for process, _ in workers.values():
            process.terminate()
            process.join()
    return {
        mode: {
            "ms_per_image": statistics.median(seconds[mode]) * 1000 / batch,
            "speedup": median_ratio(seconds["naive"], seconds[mode]),
            "peak_rss_mb": peaks[mode] / MEGA,
            "batch": batch,
            "repeats": repeats,
        }
        for mode in modes
    }


def ask(pipe: Connection, question: str) -> Any:
    """Send and wait for the answer."""
    pipe.send(question)
    return pipe.recv()


def run_steps(pipe: Connection, backbone: str, mode: str, batch: int, threads: int) -> None:
    """The process of one mode: a first, untimed step, then one whenever it is asked for."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    step = make_step(backbone, mode, batch)
    step()
    pipe.send("ready")
    while True:
        if pipe.recv() == "peak":
            pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            continue
        started = time.perf_counter()
        step()
        pipe.send(time.perf_counter() - started)


def make_step(backbone: str, mode: str, batch: int) -> Callable[[], None]:
    """A function that takes one step of training on random images."""
    subject = make_subject(find_backbone(backbone))
    model = subject.model.train()
    spec = model.spec
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=spec.learning_rates[0])
    g = torch.Generator().manual_seed(0)
    images = torch.randn((batch, 3, spec.image_size, spec.image_size), generator=g)
    masks = (torch.rand((batch, spec.image_size, spec.image_size), generator=g) > 0.7).float()
    ids, noise = subject.ids.expand(batch, -1), subject.noise(range(batch))
    naive = NaiveMedCLIPSeg(model)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mode == "bf16"):
            if mode == "naive":
                logits, patches, text = naive.forward(images, ids, noise)
            else:
                logits, patches, text = model(images, ids[:, None], noise)
        loss = segmentation_loss(logits.float(), masks).mean() + CONTRAST_WEIGHT * contrast_loss(
            patches.float(), text.float(), temperature=spec.temperature, kind=spec.contrast_text
        )
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()

    return step
