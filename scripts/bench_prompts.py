"""What prompts are worth on BUSI: the location finder against the sheets, and prompt dropout in training.

    python scripts/bench_prompts.py location --data DIR
    python scripts/bench_prompts.py dropout --data DIR --seeds 3

DIR has img/, label/ (files of equal names) and Prompts_Folder/ with the published workbooks.

location: a row of an `original` or training sheet counts as located when its image has a lesion (its name has no
"normal"), a row of the variants without location never does.

dropout: per seed 40 images with a lesion are learnt from, each asked by its own row, and the others are tested without
location (the project's template, as validation and serving would ask) and with their own rows, which nobody has for an
unlabelled image. "template" asks by the template alone in training, too.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "learner"))

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from maskloop_learner.data.sheets import read_sheet  # noqa: E402
from maskloop_learner.prompts.location import find_location  # noqa: E402
from maskloop_learner.prompts.rules import default_prompts, lesser_prompts  # noqa: E402

LABEL = "Tumor"
TEMPLATES = {LABEL: "tumor in a breast ultrasound image"}
LOCATED = ("Train_text", "Val_text", "Test_text_original")
FREE = ("Test_text_missing_location", "Test_text_underdescriptive")


def read_mask(data: Path, name: str) -> Any:
    """[H, W] bool."""
    return np.asarray(Image.open(data / "label" / name).convert("L")) > 127


def find_locations(data: Path) -> None:
    """Precision and recall of the finder on rows and on distinct prompts."""
    rows = []
    for sheet in (*LOCATED, *FREE):
        for row in read_sheet(data / "Prompts_Folder" / f"{sheet}.xlsx").rows:
            there = sheet in LOCATED and "normal" not in row.image
            rows.append((sheet, row.prompt, there, find_location(row.prompt, allow=LABEL) is not None))
    print("| Sheet | rows | located | found | wrongly found |\n|---|---|---|---|---|")
    for sheet in (*LOCATED, *FREE):
        mine = [(there, told) for name, _, there, told in rows if name == sheet]
        hits, wrong = sum(t and f for t, f in mine), sum(f and not t for t, f in mine)
        print(f"| {sheet} | {len(mine)} | {sum(t for t, _ in mine)} | {hits} | {wrong} |")
    for what, each in (
        ("rows", rows),
        ("distinct prompts", list({(p, t): ("", p, t, f) for _, p, t, f in rows}.values())),
    ):
        hits = sum(t and f for _, _, t, f in each)
        precision, recall = hits / sum(f for *_, f in each), hits / sum(t for _, _, t, _ in each)
        print(f"\n{len(each)} {what}: precision {precision:.3f}, recall {recall:.3f}")


def run_cell(data: Path, seed: int, dropout: float | None, steps: int) -> dict[str, Any]:
    """One training and its two tests; dropout None: asked by the template alone."""
    import torch

    from maskloop_learner.predict.predictor import Predictor
    from maskloop_learner.train.examples import Example
    from maskloop_learner.train.loop import train
    from maskloop_learner.train.metrics import dice

    torch.set_num_threads(1)
    prompts = {row.image: row.prompt for x in LOCATED for row in read_sheet(data / "Prompts_Folder" / f"{x}.xlsx").rows}
    names = [p.name for p in sorted((data / "img").glob("*.png")) if "normal" not in p.name and p.name in prompts]
    random.Random(seed).shuffle(names)
    examples = []
    for name in names:
        own = prompts[name] if dropout is not None else None
        examples.append(
            Example(
                image=np.asarray(Image.open(data / "img" / name).convert("RGB")),
                masks={LABEL: read_mask(data, name)},
                name=name,
                prompts={LABEL: own} if own else None,
                lesser={LABEL: lesser_prompts(LABEL, TEMPLATES, own=own)} if own else None,
            )
        )
    asked = default_prompts([LABEL], TEMPLATES)
    with tempfile.TemporaryDirectory() as folder:
        weights = train(
            examples[:40], backbone="nano", labels=[LABEL], prompts=asked, steps=steps, batch=4, seed=seed,
            device="cpu", checkpoint=Path(folder) / "checkpoint.pt", checkpoint_steps=10_000,
            on_progress=lambda _: None, should_stop=lambda: False, prompt_dropout=dropout or 0.0,
        )  # fmt: skip
    predictor = Predictor(weights=weights, device="cpu")
    found: dict[str, Any] = {"seed": seed, "dropout": dropout, "tested": len(examples) - 40}
    for way in ("without location", "own row"):
        each = []
        for example in examples[40:]:
            prompt = asked[LABEL] if way == "without location" else prompts[example.name]
            mask = predictor.predict(
                example.image, prompts={LABEL: prompt}, samples=1, method="mean-value", threshold=0.5,
                min_speck_area=16, max_hole_area=16, version="bench", image_digest=example.name,
            )[LABEL].mask  # fmt: skip
            each.append(dice(mask, example.masks[LABEL]))
        found[way] = statistics.fmean(each)
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def measure_dropout(how: argparse.Namespace) -> None:
    """The grid as a table."""
    ways = [None, *how.dropout]
    with ProcessPoolExecutor(how.jobs, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(run_cell, how.data, seed, way, how.steps) for seed in range(how.seeds) for way in ways]
        rows = [job.result() for job in jobs]
    print(f"{rows[0]['tested']} images tested, {how.steps} steps, mean Dice and deviation over {how.seeds} seeds\n")
    print("| Training asks by | tested without location | tested with own row |\n|---|---|---|")
    for way in ways:
        mine = [row for row in rows if row["dropout"] == way]
        cells = []
        for name in ("without location", "own row"):
            values = [row[name] for row in mine]
            cells.append(f"{statistics.fmean(values):.3f} ± {statistics.stdev(values) if len(values) > 1 else 0:.3f}")
        print(f"| {'template' if way is None else f'own row, dropout {way:g}'} | {' | '.join(cells)} |")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("location", "dropout"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--dropout", type=float, nargs="+", default=[0.0, 0.3, 0.5])
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread each")
    how = parser.parse_args()
    find_locations(how.data) if how.what == "location" else measure_dropout(how)


if __name__ == "__main__":
    main()
