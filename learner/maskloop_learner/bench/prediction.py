"""One prediction, by the plain loop and in each of our ways, in the same run and with the same noise."""

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from maskloop_learner.bench.naive import NaiveMedCLIPSeg
from maskloop_learner.bench.subject import Subject
from maskloop_learner.bench.timing import median_ratio, time_in_turn
from maskloop_learner.model.precision import cpu_has_bf16
from maskloop_learner.predict.scores import StreamingScores


def bench_prediction(
    subject: Subject, other: Subject, *, samples: int, repeats: int, tick: Callable[[], None]
) -> dict[str, dict[str, Any]]:
    """Per mode ms per image, images/s, times faster than the plain loop, and largest difference of mean probability.

    `other` is the same model again; it is turned to bfloat16. `rank` is the mean-value pass. Without bfloat16
    products in the hardware that mode is emulated and slow: it is then timed on one chunk and scaled up.
    """
    hardware = cpu_has_bf16()
    short = samples if hardware else min(samples, subject.model.spec.chunk)
    other.model.use_precision(torch.bfloat16)
    found: dict[str, Tensor] = {}

    def keep(name: str, way: Callable[[], Tensor]) -> Callable[[], None]:
        def run() -> None:
            found[name] = way()

        return run

    ways = {
        "naive": keep("naive", lambda: predict_naively(subject, samples)),
        "exact": keep("exact", lambda: predict(subject, samples)),
        "rank": keep("rank", lambda: predict(subject, None)),
    }
    rough = {"bf16": keep("bf16", lambda: predict(other, short))}
    with torch.inference_mode():
        seconds = time_in_turn({**ways, **rough} if hardware else ways, repeats=repeats, tick=tick)
        slow = seconds if hardware else time_in_turn(rough, repeats=1, warm=False, tick=tick)
        truth = found["naive"]
        same = truth if short == samples else predict_naively(subject, short)
    scaled = [s * samples / short for s in slow["bf16"]]
    seconds["bf16"] = scaled if len(scaled) == repeats else scaled * repeats
    modes: dict[str, dict[str, Any]] = {}
    for name in ("naive", "exact", "bf16", "rank"):
        reference = same if name == "bf16" else truth
        median = statistics.median(seconds[name])
        modes[name] = {
            "ms": median * 1000,
            "images_per_second": 1 / median,
            "speedup": median_ratio(seconds["naive"], seconds[name]),
            "max_abs_prob_diff": float((found[name] - reference).abs().max()),
            "samples": 1 if name == "rank" else samples,
            "timed_samples": 1 if name == "rank" else short if name == "bf16" else samples,
            "repeats": len(slow["bf16"]) if name == "bf16" else repeats,
        }
    return modes


def predict_naively(subject: Subject, samples: int) -> Tensor:
    """Mean probability [size, size] of `samples` whole passes, after one that is thrown away, as published."""
    noises = [subject.noise(range(k, k + 1)) for k in range(samples)]
    return NaiveMedCLIPSeg(subject.model).sample(subject.image, subject.ids, noises).sigmoid().mean(0)


def predict(subject: Subject, samples: int | None) -> Tensor:
    """Mean probability [size, size] as the predictor computes it; None: the mean-value pass."""
    model = subject.model
    prefix = model.prefix(model.look(subject.image), model.read(subject.ids), subject.ids)
    scores = StreamingScores()
    if samples is None:
        scores.add(model.sample(prefix, None).logits.float().sigmoid())
    for start in range(0, samples or 0, model.spec.chunk):
        noise = subject.noise(range(start, min(start + model.spec.chunk, samples or 0)))
        scores.add(model.sample(prefix, noise).logits.float().sigmoid())
    return scores.result().probability
