"""What early stopping, a warm start and a modality's augmentation are worth on real images (BUSI), with nano.

    OMP_NUM_THREADS=1 python scripts/bench_training.py --data DIR --seeds 0 1

Each seed shuffles the images: the first 50 are labelled, the others test. The champion has learnt from the first 30;
the 20 after these are new. Dice of one deterministic pass, in-sample choices none: no way is chosen by the test images.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "learner"), str(ROOT / "scripts")]

from bench_pretraining import LABEL, read_images, test  # noqa: E402

from maskloop_learner.model.checkpoint import load_weights, read_meta  # noqa: E402
from maskloop_learner.train.loop import WarmStart, train  # noqa: E402
from maskloop_learner.train.modality import PRESETS  # noqa: E402

OLD, LABELLED = 30, 50
PROMPT = "tumor in a breast ultrasound"


def ways(champion: bytes, steps: int) -> dict[str, dict[str, Any]]:
    """What is tried, by name: changes of a training from the base weights on all labels for all steps."""
    fresh = frozenset(range(OLD, LABELLED))
    return {
        "base": {},
        "early stopping, patience 3": {"patience": 3},
        "champion": {"warm": WarmStart(initial=champion, fresh=fresh, replay=0.5)},
        "champion, half the steps": {
            "warm": WarmStart(initial=champion, fresh=fresh, replay=0.5),
            "steps": steps // 2,
        },
        "ultrasound": {"augmentation": PRESETS["ultrasound"]},
    }


def main() -> None:
    """Train all ways of all seeds and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with img/ and label/")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--only", default="", help="ways whose name begins so")
    how = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {}
    for seed in how.seeds:
        examples = read_images(how.data)
        random.Random(seed).shuffle(examples)
        labelled, rest = examples[:LABELLED], examples[LABELLED:]

        def learn(lessons: Any, seed: int = seed, **changes: Any) -> bytes:
            with tempfile.TemporaryDirectory() as folder:
                return train(
                    lessons,
                    **{
                        "backbone": "nano",
                        "labels": [LABEL],
                        "prompts": {LABEL: PROMPT},
                        "steps": how.steps,
                        "batch": 4,
                        "seed": seed,
                        "device": "cpu",
                        "checkpoint": Path(folder) / "checkpoint.pt",
                        "checkpoint_steps": 10_000,
                        "on_progress": lambda _: None,
                        "should_stop": lambda: False,
                    }
                    | changes,
                )

        champion = learn(labelled[:OLD])
        print(f"seed {seed}, the champion: {test(load_weights(champion, device='cpu'), rest, PROMPT):.3f}", flush=True)
        for name, changes in ways(champion, how.steps).items():
            if not name.startswith(how.only):
                continue
            began = time.thread_time()
            weights = learn(labelled, **changes)
            dice = test(load_weights(weights, device="cpu"), rest, PROMPT)
            found.setdefault(name, []).append(dice)
            best = read_meta(weights).get("best_step", "")
            print(f"seed {seed}, {name}: {dice:.3f}, {time.thread_time() - began:.0f} s, best {best}", flush=True)
    for name, values in found.items():
        print(f"{name}: mean {statistics.fmean(values):.3f} of {len(values)} seeds")


if __name__ == "__main__":
    main()
