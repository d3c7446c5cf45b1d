"""How often the gate promotes a challenger of known worth, on simulated validation sets.

Each trial draws one difference of Dice per image (normal, around the true difference), with areas and four sources by
chance, and asks the product's own gate, slices included.

    python scripts/bench_gate.py --trials 1000
"""

import argparse

from maskloop_learner.bench.gate import count_promoted
from maskloop_learner.train.gate import Rules


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
