"""How often the gate promotes a challenger of known worth, on simulated validation sets.

Each trial draws one difference of Dice per image (normal, around the true difference), with areas and four sources by
chance, and asks the product's own gate, slices included.

    python scripts/bench_gate.py --trials 1000
"""

import argparse
from collections.abc import Sequence

import numpy as np

from maskloop_learner.train.gate import Decision, Rules, decide
from maskloop_learner.train.slices import Case

SD = 0.08
"""Of the difference of Dice from image to image."""
BASE = 0.78
"""The champion's mean Dice."""


def simulate(*, images: int, difference: float, seed: int, sd: float = SD, groups: int | None = None) -> list[Case]:
    """One validation set on which the challenger is better by `difference` (Dice) in truth.

    One label; areas and sources (four) by chance. groups: how many patients the images are of, all of one size;
    None: each image its own.
    """
    rng = np.random.default_rng(seed)
    champion = rng.uniform(BASE - 0.1, BASE + 0.1, images)
    # Clear of 0 and 1, so that the mean and the spread are what was asked for.
    challenger = np.clip(champion + rng.normal(difference, sd, images), 0, 1)
    areas, sources = rng.uniform(0.01, 0.3, images), rng.integers(0, 4, images)
    return [
        Case(
            image=f"{k:064x}",
            group=f"patient {k if groups is None else k % groups}",
            label="Tumor",
            area=float(areas[k]),
            source=f"scanner {sources[k]}",
            champion=float(champion[k]),
            challenger=float(challenger[k]),
        )
        for k in range(images)
    ]


def count_promoted(rules: Rules, *, images: int, difference: float, seeds: Sequence[int]) -> int:
    """In how many of the trials, one per seed, the challenger is promoted."""
    return sum(ask(rules, images=images, difference=difference, seed=seed).promote for seed in seeds)


def ask(rules: Rules, *, images: int, difference: float, seed: int) -> Decision:
    """The gate's decision in one trial."""
    return decide(simulate(images=images, difference=difference, seed=seed), rules=rules)


def main() -> None:
    """Read the command line, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--images", type=int, nargs="+", default=[30, 60, 120, 240])
    parser.add_argument("--margins", type=float, nargs="+", default=[0.0, 0.01, 0.02])
    parser.add_argument("--level", type=float, default=Rules().level)
    parser.add_argument("--points", type=float, nargs="+", default=[-3, -2, -1, 0, 1, 2, 3])
    options = parser.parse_args()
    print("| margin | images | " + " | ".join(f"{points:+g}" for points in options.points) + " |")
    print("|---" * (2 + len(options.points)) + "|")
    for margin in options.margins:
        rules = Rules(margin=margin, level=options.level)
        for images in options.images:
            rates = [
                count_promoted(rules, images=images, difference=points / 100, seeds=range(options.trials))
                for points in options.points
            ]
            print(f"| {margin:g} | {images} | " + " | ".join(f"{rate / options.trials:.1%}" for rate in rates) + " |")


if __name__ == "__main__":
    main()
