"""A training in a process of its own, to be killed: python training_script.py FOLDER KIND [STEPS]. Prints its steps."""

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maskloop_learner.train.loop import Example, Progress, WarmStart, train

LABELS = ["Disc", "Square"]
PROMPTS = {"Disc": "a bright disc", "Square": "a dark square"}


def example(seed: int) -> Example:
    """A disc and, in two of three, a square, on grey; sizes differ."""
    rng = np.random.default_rng(seed)
    height, width = (int(x) for x in rng.integers(60, 130, 2))
    y, x = np.mgrid[:height, :width]
    side = min(height, width)
    disc = np.hypot(y - rng.uniform(0.3, 0.7) * height, x - 0.28 * width) < 0.2 * side
    square = np.maximum(abs(y - rng.uniform(0.3, 0.7) * height), abs(x - 0.75 * width)) < 0.17 * side
    grey = 110 + 80 * disc + rng.normal(0, 8, disc.shape)
    masks = {"Disc": disc}
    if seed % 3:
        masks["Square"] = square
        grey -= 70 * square
    image = np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    return Example(image=image, masks=masks, name=f"image-{seed}", group=f"patient-{seed // 2}")


def arguments(folder: Path, kind: str, steps: int) -> dict[str, Any]:
    """Of `train`. Kinds: plain; stopping: looks at held-out images; warm: goes on from the weights in FOLDER/first."""
    changes: dict[str, Any] = {}
    if kind == "stopping":
        changes = {"patience": 3}
    if kind == "warm":
        first = (folder.parent / "first").read_bytes()
        changes = {"warm": WarmStart(initial=first, fresh=frozenset(range(4)), replay=0.5)}
    return {
        "examples": [example(k) for k in range(24)],
        "backbone": "nano",
        "labels": LABELS,
        "prompts": PROMPTS,
        "steps": steps,
        "batch": 3,
        "seed": 0,
        "device": "cpu",
        "checkpoint": folder / "checkpoint.pt",
        "checkpoint_steps": 1,
        "on_progress": lambda _: None,
        "should_stop": lambda: False,
    } | changes


def main() -> None:
    """Train and print each step, then the digest of the weights."""

    def say(progress: Progress) -> None:
        print(progress.step, flush=True)

    torch.set_num_threads(1)
    weights = train(**arguments(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])) | {"on_progress": say})
    print(hashlib.sha256(weights).hexdigest(), flush=True)


if __name__ == "__main__":
    main()
