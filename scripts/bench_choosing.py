"""What it takes to choose a batch of 100 out of 100,000 images: a pool of synthetic rows is written, then read and
chosen from by every strategy, each in a process of its own.

    python scripts/bench_choosing.py [--images 100000] [--width 512] [--size 100] [--home FOLDER]

`--width`: numbers in an embedding; 512 of the published backbones, 32 of `nano`. `--alike`: share of the images that
are frames of one video, the most uncertain of all: the worst case for the search for near duplicates.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import insert
from sqlalchemy.orm import Session

from maskloop_learner.pool.candidates import load_candidates
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import (
    Embedding,
    Image,
    Label,
    Model,
    Prediction,
    PredictionVersion,
    Project,
    Rank,
    Score,
    Task,
    utcnow,
)
from maskloop_learner.select.choosing import Options, make_choice
from maskloop_learner.select.strategies import STRATEGIES
from maskloop_learner.settings import Settings

VERSION = "maskloop-0123456789ab"
LABELS = ("Edema", "Tumor")
AT_ONCE = 2000
MEASURES = ("predictive_entropy", "expected_entropy", "mutual_information", "variance")
AGGREGATIONS = ("mean", "foreground_band", "patch_max", "top_q", "boundary_norm")


def main() -> None:
    """Print the table, or, called by itself, one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--labelled", type=int, default=500)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--alike", type=float, default=0.0)
    parser.add_argument("--home", type=Path, help="Keep the pool here, and use the one that is there.")
    parser.add_argument("--strategy", help="Measure one, and print JSON.")
    arguments = parser.parse_args()
    if arguments.strategy:
        print(json.dumps(measure(arguments.home, arguments.strategy, arguments.size)))
        return
    with tempfile.TemporaryDirectory() as folder:
        home = arguments.home or Path(folder)
        started = time.perf_counter()
        if not (home / "maskloop.db").exists():
            fill(
                home, images=arguments.images, labelled=arguments.labelled, width=arguments.width, alike=arguments.alike
            )
        megabytes = sum(file.stat().st_size for file in home.glob("*.db*")) / 1e6
        print(f"{arguments.images:,} images in {megabytes:,.0f} MB, written in {time.perf_counter() - started:.0f} s\n")
        print("CPU seconds of one process; on a machine that does nothing else, about the seconds that pass.\n")
        print("| strategy | load, s | choose, s | together, s | passed, s | peak memory, MB | images |")
        print("|---" * 7 + "|")
        for name in STRATEGIES:
            command = [sys.executable, __file__, "--home", str(home), "--strategy", name, "--size", str(arguments.size)]
            row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            total = row["load"] + row["choose"]
            print(
                f"| {name} | {row['load']:.2f} | {row['choose']:.2f} | {total:.2f} | {row['wall']:.1f} "
                f"| {row['megabytes']:.0f} | {row['picks']} |",
                flush=True,
            )


def measure(home: Path, strategy: str, size: int) -> dict[str, Any]:
    """Seconds and memory of one choice, in this process."""
    pool = Pool.open(Settings(home=home))
    started, busy = time.perf_counter(), time.process_time()
    with pool.read() as session:
        candidates = load_candidates(session, 1, VERSION, score=STRATEGIES[strategy].score)
    busy_loaded = time.process_time()
    choice = make_choice(candidates, strategy=strategy, size=size, seed=1, options=Options(group_cap=20))
    done, busy_done = time.perf_counter(), time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return {
        "load": busy_loaded - busy,
        "choose": busy_done - busy_loaded,
        "wall": done - started,
        "megabytes": peak,
        "picks": len(choice.picks),
    }


def fill(home: Path, *, images: int, labelled: int, width: int, alike: float) -> None:
    """A pool with so many tasks, all predicted with two labels and embedded."""
    home.mkdir(parents=True, exist_ok=True)
    pool = Pool.open(Settings(home=home))
    rng = np.random.default_rng(0)
    with pool.write() as session:
        session.add(Project(id=1, ls_url="http://127.0.0.1:1", ls_id=1, title="bench"))
        session.flush()
        session.add(Model(id=1, project_id=1, weights_digest="0" * 64, backbone="nano", labels=list(LABELS)))
        session.flush()
        session.add(PredictionVersion(id=VERSION, project_id=1, model_id=1))
    kinds = rng.normal(size=(200, width))
    for start in range(0, images, AT_ONCE):
        with pool.write() as session:
            write(
                session, range(start, min(start + AT_ONCE, images)), kinds, rng, labelled=labelled, alike=alike * images
            )
    pool.close()


def write(
    session: Session, numbers: range, kinds: Any, rng: np.random.Generator, *, labelled: int, alike: float
) -> None:
    """The rows of these images; those with small numbers are alike, or labelled."""
    count = len(numbers)
    vectors = kinds[rng.integers(len(kinds), size=count)] + rng.normal(scale=0.7, size=(count, kinds.shape[1]))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    frame = np.random.default_rng(1).integers(0, 256, (16, 16))
    rows: dict[type[Any], list[dict[str, Any]]] = {
        kind: [] for kind in (Image, Task, Prediction, Score, Rank, Embedding, Label)
    }
    for at, number in enumerate(numbers):
        digest, video = f"{number:064x}", number < alike
        look = np.clip(frame + rng.integers(-2, 3, (16, 16)), 0, 255) if video else rng.integers(0, 256, (16, 16))
        phash = "0123456789abcdef" if video else rng.bytes(8).hex()
        uncertainty = round(float(rng.beta(2, 8)) * 0.5 + (0.5 if video else 0), 9)
        keys = {"version_id": VERSION, "image_digest": digest, "prompt_digest": ""}
        rows[Image].append(
            {"digest": digest, "width": 512, "height": 512, "format": "PNG", "size": 1, "phash": phash}
            | {"thumbnail": look.astype(np.uint8).tobytes().hex()}
        )
        rows[Task].append(
            {"id": number + 1, "project_id": 1, "ls_id": number + 1, "url": f"/{number}.png", "state": "ready"}
            | {"image_digest": digest, "group_key": f"patient {number // 10}", "part": "image"}
        )
        rows[Prediction].append({"id": number + 1, "uncertainty": uncertainty, **keys})
        measures = {name: dict.fromkeys(AGGREGATIONS, uncertainty) for name in MEASURES}
        rows[Rank].append(
            {"uncertainty": uncertainty, "method": "mean-value", "samples": 1, **keys}
            | {"aggregates": dict.fromkeys(LABELS, measures)}
        )
        for label in LABELS:
            rows[Score].append(
                {"prediction_id": number + 1, "label": label, "mask_digest": digest, "method": "monte-carlo"}
                | {"area": int(rng.integers(0, 9000)), "samples": 30, **dict.fromkeys(MEASURES, uncertainty)}
            )
        rows[Embedding].append(
            {"image_digest": digest, "space": "bench-0", "vector": vectors[at].astype("<f2").tobytes()}
        )
        if number >= alike and number - alike < labelled:
            rows[Label].append({"task_id": number + 1, "ls_annotation_id": number, "ls_updated_at": utcnow()})
    for kind, values in rows.items():
        if values:
            session.execute(insert(kind), values)


if __name__ == "__main__":
    main()
