"""What nano's first weights are worth on images they never saw: Dice on BUSI from them and from random weights.

    python scripts/bench_pretraining.py --data DIR --jobs 2

DIR has img/ and label/ with files of equal names; those with "normal" in the name are left out. Per seed 40 images
are for learning and the rest for testing. Both starts get the same network, images, augmentation, steps, learning
rates and chance. Dice at the images' own size, of the pass with all chance at its mean, threshold 0.5, no clean-up.
With --rows a run that was stopped goes on where it was.
"""

import argparse
import hashlib
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "learner"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from maskloop_learner.model.backbones import NANO  # noqa: E402
from maskloop_learner.model.medclipseg import MedCLIPSeg  # noqa: E402
from maskloop_learner.model.preprocess import normalise  # noqa: E402
from maskloop_learner.model.shipped import FOLDER, WEIGHTS, read_manifest, read_weights, ship_weights, start_from  # noqa: E402
from maskloop_learner.pretrain.trial import predict_mean  # noqa: E402
from maskloop_learner.train.augment import Augmentation, augment  # noqa: E402
from maskloop_learner.train.examples import Example, ExampleSet, gather_examples  # noqa: E402
from maskloop_learner.train.losses import CONTRAST_WEIGHT, contrast_loss, segmentation_loss  # noqa: E402
from maskloop_learner.train.metrics import dice  # noqa: E402

LABEL = "Tumor"
STARTS = ("random", "pretrained")


def read_images(data: Path) -> list[Example]:
    """All images with a lesion, by name."""
    names = [path.name for path in sorted((data / "img").glob("*.png")) if "normal" not in path.name]
    if not names:
        raise SystemExit(f"{data / 'img'} has no images; --data names a folder with img/ and label/")
    return [
        Example(
            image=np.asarray(Image.open(data / "img" / name).convert("RGB")),
            masks={LABEL: np.asarray(Image.open(data / "label" / name).convert("L")) > 127},
            name=name,
        )
        for name in names
    ]


def start(kind: str, *, seed: int, weights: Path) -> MedCLIPSeg:
    """Nano from random weights of that seed or from those of the folder."""
    model = MedCLIPSeg(NANO, seed=seed)
    return start_from(model, read_weights(weights)) if kind == "pretrained" else model


def fine_tune(
    model: MedCLIPSeg, data: ExampleSet, prompts: Sequence[str], *, steps: int, batch: int, rate: float, seed: int
) -> None:
    """Train in place as the product does: Adam, warm-up, cosine, clipped gradient, its augmentation and loss."""
    model.train()
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=rate)
    generator = torch.Generator().manual_seed(seed)
    tokens, order = model.tokens(prompts), torch.empty(0, dtype=torch.int64)
    warm = max(1, round(NANO.warmup * steps))
    for step in range(steps):
        share = (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate * ((step + 1) / warm if step < warm else 0.01 + 0.99 * share)
        if len(order) < batch:
            order = torch.cat([order, torch.randperm(len(data.names), generator=generator)])
        chosen, order = order[:batch], order[batch:]
        images, masks = augment(
            data.images[chosen].float() / 255, data.masks[chosen].float() / 255, Augmentation(), generator
        )
        noise = [
            tuple(torch.randn((batch * len(tokens), *shape), generator=generator) for shape in pair)
            for pair in model.noise_shapes()
        ]
        output = model(normalise(images, NANO.preprocessing), tokens, noise)
        loss = segmentation_loss(output.logits, masks.flatten(0, 1)).mean() + CONTRAST_WEIGHT * contrast_loss(
            output.patches, output.text, temperature=NANO.temperature, kind=NANO.contrast_text
        )
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
    model.eval()


def test(model: MedCLIPSeg, examples: Sequence[Example], prompt: str) -> float:
    """Mean Dice."""
    model.eval()
    return statistics.fmean(
        dice(predict_mean(model, e.image, [prompt])[0].numpy() > 0.5, e.masks[LABEL]) for e in examples
    )


def run_cell(seed: int, kind: str, steps: int, rate: float, how: argparse.Namespace) -> dict[str, Any]:
    """One training and its test; steps 0 tests the start itself."""
    torch.set_num_threads(1)
    examples = read_images(how.data)
    random.Random(seed).shuffle(examples)
    labelled, rest = examples[: how.labelled], examples[how.labelled :]
    model, began = start(kind, seed=seed, weights=how.weights), time.thread_time()
    if steps:
        data = gather_examples(labelled, labels=[LABEL], size=NANO.image_size)
        fine_tune(model, data, [how.prompt], steps=steps, batch=how.batch, rate=rate, seed=seed)
    seconds = round(time.thread_time() - began, 1)
    found = test(model, rest, how.prompt)
    print(f"seed {seed}, {kind}, {steps} steps at {rate:g}: {found:.3f}", file=sys.stderr, flush=True)
    return {"seed": seed, "start": kind, "steps": steps, "rate": rate, "dice": found, "seconds": seconds}


def run_grid(how: argparse.Namespace) -> list[dict[str, Any]]:
    """All cells of all seeds from both starts; those in the rows' file are not run again."""
    weights = hashlib.sha256((how.weights / WEIGHTS.name).read_bytes()).hexdigest()
    fixed = {"labelled": how.labelled, "batch": how.batch, "prompt": how.prompt}
    cells = [(0, 0.0), *((steps, rate) for steps in how.steps for rate in how.rates)]
    wanted = [
        {"seed": seed, "start": kind, "steps": steps, "rate": rate, **fixed}
        | ({"weights": weights} if kind == "pretrained" else {})
        for seed in how.seeds
        for kind in STARTS
        for steps, rate in cells
    ]
    done = [json.loads(line) for line in how.rows.read_text().splitlines()] if how.rows and how.rows.exists() else []
    rows = [row for row in done if {k: v for k, v in row.items() if k not in ("dice", "seconds")} in wanted]
    known = [{k: v for k, v in row.items() if k not in ("dice", "seconds")} for row in rows]
    with ProcessPoolExecutor(how.jobs, mp_context=get_context("spawn")) as pool:
        tasks = {
            pool.submit(run_cell, key["seed"], key["start"], key["steps"], key["rate"], how): key
            for key in wanted
            if key not in known
        }
        for task in as_completed(tasks):
            rows.append(tasks[task] | task.result())
            if how.rows:
                with how.rows.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    return sorted(rows, key=lambda row: (row["steps"], row["rate"], row["seed"]))


def summarise(rows: Sequence[dict[str, Any]], how: argparse.Namespace) -> dict[str, Any]:
    """The grid as mean and deviation over seeds, the best cell of each start and their difference."""
    grid = []
    for steps, rate in dict.fromkeys((row["steps"], row["rate"]) for row in rows):
        cell: dict[str, Any] = {"steps": steps, "rate": rate}
        for kind in STARTS:
            values = [r["dice"] for r in rows if (r["steps"], r["rate"], r["start"]) == (steps, rate, kind)]
            cell[kind] = round(statistics.fmean(values), 4)
            cell[f"{kind}_sd"] = round(statistics.stdev(values), 4) if len(values) > 1 else 0.0
        grid.append(cell)
    trained = [cell for cell in grid if cell["steps"]]
    best: dict[str, dict[str, Any]] = {}
    for kind in STARTS:
        values = [cell[kind] for cell in trained]
        best[kind] = trained[values.index(max(values))]
    return {
        "images": len(read_images(how.data)),
        "labelled": how.labelled,
        "seeds": how.seeds,
        "prompt": how.prompt,
        "batch": how.batch,
        "grid": grid,
        "best": best,
        "gain_of_best": round(best["pretrained"]["pretrained"] - best["random"]["random"], 4),
    }


def print_table(summary: dict[str, Any]) -> None:
    """The grid in Markdown."""
    print("| Steps | Learning rate | Random weights | Pretrained | Gain |\n|---|---|---|---|---|")
    for cell in summary["grid"]:
        rate = f"{cell['rate']:g}" if cell["steps"] else "(none: first predictions)"
        values = " | ".join(f"{cell[kind]:.3f} ± {cell[f'{kind}_sd']:.3f}" for kind in STARTS)
        print(f"| {cell['steps']} | {rate} | {values} | {cell['pretrained'] - cell['random']:+.3f} |")
    best = summary["best"]
    said = "; ".join(
        f"{kind} {best[kind][kind]:.3f} ({best[kind]['steps']} steps at {best[kind]['rate']:g})" for kind in STARTS
    )
    print(f"\nBest: {said}; difference {summary['gain_of_best']:+.3f}")


def main() -> None:
    """Print the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "busi")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-4, 1e-3, 2e-3])
    parser.add_argument("--labelled", type=int, default=40)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--prompt", default="tumor in a breast ultrasound image")
    parser.add_argument("--weights", type=Path, default=FOLDER, help="folder of nano.safetensors and nano.json")
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread each")
    parser.add_argument("--rows", type=Path, help="keep each result here, and take those that are there")
    parser.add_argument("--json", type=Path, help="write the summary here, too")
    parser.add_argument("--manifest", action="store_true", help="put the summary into the weights' manifest")
    how = parser.parse_args()
    rows = run_grid(how)
    summary = summarise(rows, how)
    print_table(summary)
    if how.manifest:
        manifest = read_manifest(how.weights)
        # What is written must be what was measured: ship_weights takes the digest anew from the same bytes.
        ship_weights((how.weights / WEIGHTS.name).read_bytes(), manifest | {"busi": summary}, folder=how.weights)
    if how.json:
        how.json.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
