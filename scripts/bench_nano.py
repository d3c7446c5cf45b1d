"""Figures of the nano backbone on the demo's slices: Dice per number of labels, seconds, and how many samples.

    OMP_NUM_THREADS=1 python scripts/bench_nano.py --labels 8 30 --seeds 0

Trains on the demo's seed slices plus pool slices, tests on the 20 frozen ones. CPU seconds of one thread.
"""

import argparse
import hashlib
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("learner", "queue", "backend")]

from maskloop_backend.demo.slices import DemoSet, make_demo_slices  # noqa: E402
from maskloop_learner.predict.predictor import LabelPrediction, Predictor  # noqa: E402
from maskloop_learner.settings import get_settings  # noqa: E402
from maskloop_learner.train.evaluation import evaluate  # noqa: E402
from maskloop_learner.train.loop import Example, train  # noqa: E402


def read_example(demo: DemoSet, name: str) -> Example:
    """A demo slice with its true masks."""
    image = np.asarray(Image.open(demo.image(name)).convert("RGB"))
    masks = {label: np.asarray(Image.open(demo.truth(label, name))) > 127 for label in demo.prompts}
    return Example(image=image, masks=masks, name=name)


def bench_training(demo: DemoSet, *, labels: int, seed: int, steps: int, batch: int) -> Predictor:
    """Train once, print Dice and seconds, and return the predictor."""
    settings = get_settings()
    pool = list(demo.splits["pool"])
    random.Random(seed).shuffle(pool)
    names = [*demo.splits["seed"], *pool][:labels]
    started = time.thread_time()
    with tempfile.TemporaryDirectory() as folder:
        weights = train(
            [read_example(demo, name) for name in names],
            backbone="nano",
            labels=list(demo.prompts),
            prompts=demo.prompts,
            steps=steps,
            batch=batch,
            seed=seed,
            device="cpu",
            checkpoint=Path(folder) / "checkpoint.pt",
            checkpoint_steps=settings.checkpoint_steps,
            on_progress=lambda _: None,
            should_stop=lambda: False,
        )
    seconds = time.thread_time() - started
    predictor = Predictor(weights=weights, device="cpu")
    found = evaluate(
        predictor,
        [read_example(demo, name) for name in demo.splits["test"]],
        demo.prompts,
        samples=4,
        threshold=settings.threshold,
        min_speck_area=settings.min_speck_area,
        max_hole_area=settings.max_hole_area,
    )
    figures = ", ".join(f"{label} {value:.3f}" for label, value in found.items())
    print(
        f"{len(names):3} labels, seed {seed}: Dice {figures}; {seconds:.0f} s for {steps} steps of {batch}, "
        f"weights {len(weights) / 1e6:.1f} MB",
        flush=True,
    )
    return predictor


def bench_samples(demo: DemoSet, predictor: Predictor, counts: list[int], *, reference: int = 60) -> None:
    """How far S samples agree with many others on the mean predictive entropy, and what they cost."""
    images = [read_example(demo, name).image for name in demo.splits["pool"][::4]]

    def ask(samples: int, version: str) -> tuple[list[dict[str, LabelPrediction]], float]:
        how: dict[str, Any] = {"threshold": 0.5, "min_speck_area": 16, "max_hole_area": 16, "version": version}
        found, seconds = [], []
        for image in images:
            digest = hashlib.sha256(image.tobytes()).hexdigest()
            started = time.thread_time()
            found.append(predictor.predict(image, prompts=demo.prompts, samples=samples, image_digest=digest, **how))
            seconds.append(time.thread_time() - started)
        return found, statistics.median(seconds)

    def scores(found: list[dict[str, LabelPrediction]]) -> list[float]:
        return [max(p.predictive_entropy for p in each.values()) for each in found]

    truth, _ = ask(reference, "reference")
    for count in counts:
        found, seconds = ask(count, "tried")
        rank = float(spearmanr(scores(found), scores(truth)).statistic)
        off = statistics.mean(abs(a - b) / b for a, b in zip(scores(found), scores(truth), strict=True))
        flips = statistics.mean(
            float((a[label].mask != b[label].mask).mean()) for a, b in zip(found, truth, strict=True) for label in a
        )
        information = statistics.mean(p.mutual_information for each in found for p in each.values())
        print(
            f"S={count:3}: {seconds * 1000:4.0f} ms an image of {len(demo.prompts)} labels; against {reference} other "
            f"samples: rank correlation {rank:.4f}, entropy off by {off:.2%}, pixels flipped {flips:.3%}; "
            f"mutual information {information:.1e}",
            flush=True,
        )


def main() -> None:
    """Print the figures."""
    settings = get_settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, nargs="+", default=[8, 30], help="numbers of labelled images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=settings.train_steps)
    parser.add_argument("--batch", type=int, default=settings.train_batch)
    parser.add_argument("--samples", type=int, nargs="*", default=[1, 4, 10, 30], help="S to compare; none: skip")
    parser.add_argument("--demo", type=Path, help="folder of the demo slices; default: made anew")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        demo = make_demo_slices(chosen.demo or Path(folder))
        predictor = None
        for count in chosen.labels:
            for seed in chosen.seeds:
                predictor = bench_training(demo, labels=count, seed=seed, steps=chosen.steps, batch=chosen.batch)
        if predictor is not None and chosen.samples:
            bench_samples(demo, predictor, chosen.samples)


if __name__ == "__main__":
    main()
