"""Dice per label on the demo's 20 frozen slices, round by round: what ten labels at a time buy.

Round 0 is what the shipped weights draw without a label. An oracle labels the ten most uncertain slices after each
round, out of the truth. Everything but Label Studio is
the product's own: pool, snapshots, training, gate, prediction, ranking. One process per seed.

    python scripts/learning_curve.py --seeds 3 --rounds 3
"""

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from maskloop_learner.settings import Settings


def run_seed(seed: int, rounds: int, batch: int) -> list[dict[str, Any]]:
    """The rounds of one seed: labels learnt from, Dice per label of the champion, seconds of the training."""
    from maskloop_backend.cli.models import evaluate_folder
    from maskloop_backend.demo.slices import make_demo_slices
    from maskloop_learner.pool.pool import Pool
    from maskloop_learner.pool.queries import current_version, ranking, unscored
    from maskloop_learner.pool.schema import Project, Round
    from maskloop_queue.rounds import run
    from maskloop_queue.scoring import Predictors, score
    from maskloop_queue.triggers import request_training, start_due_round

    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), train_seed=seed, device="cpu", gate_allow_few=True)
        pool, slices = Pool.open(settings), make_demo_slices(Path(folder) / "demo")
        project_id = _fill(pool, slices)
        for name in slices.splits["seed"]:
            _label(pool, slices, project_id, name)
        found = [_before(seed, slices, settings)]
        for number in range(1, rounds + 1):
            request_training(pool, project_id, cause="demo")
            round_id = start_due_round(pool, project_id, settings)
            if round_id is None:
                raise RuntimeError(f"round {number} was not opened")
            started = time.perf_counter()
            run(pool, round_id, settings, lambda progress: None, lambda: False)
            seconds = time.perf_counter() - started
            with pool.read() as session:
                project, ended = session.get_one(Project, project_id), session.get_one(Round, round_id)
                version = str(current_version(session, project_id))
                questions = list(unscored(session, project_id, version, limit=1000))
            predictors = Predictors(device="cpu")
            for question in questions:
                score(pool, predictors, version, *question)
            dice = evaluate_folder(
                pool,
                settings,
                project,
                images=slices.root / "images",
                masks=slices.root / "truth",
                names=slices.splits["test"],
            )
            with pool.read() as session:
                ranked = ranking(session, project_id, version)
            found.append(
                {
                    "seed": seed,
                    "round": number,
                    "labels": len(slices.splits["seed"]) + (number - 1) * batch,
                    "outcome": ended.state,
                    "dice": dice,
                    "seconds": round(seconds, 1),
                }
            )
            for row in ranked[:batch]:
                _label(pool, slices, project_id, row.url)
        pool.close()
        return found


def _before(seed: int, slices: Any, settings: Settings) -> dict[str, Any]:
    """What the start of every training draws before the first label."""
    from maskloop_learner.model.backbones import find_backbone
    from maskloop_learner.model.checkpoint import save_weights
    from maskloop_learner.model.start import build_start
    from maskloop_learner.pool.images import open_image
    from maskloop_learner.pool.masks import decode_mask
    from maskloop_learner.predict.predictor import Predictor
    from maskloop_learner.train.evaluation import evaluate
    from maskloop_learner.train.examples import Example

    weights = save_weights(build_start(find_backbone(settings.backbone), seed=seed, start="pretrained"), meta={})
    examples = [
        Example(
            image=open_image(slices.image(name).read_bytes()),
            masks={label: decode_mask(slices.truth(label, name).read_bytes()) for label in slices.prompts},
            name=name,
        )
        for name in slices.splits["test"]
    ]
    dice = evaluate(
        Predictor(weights=weights, device="cpu"),
        examples,
        slices.prompts,
        samples=settings.samples,
        threshold=settings.threshold,
        min_speck_area=settings.min_speck_area,
        max_hole_area=settings.max_hole_area,
    )
    return {"seed": seed, "round": 0, "labels": 0, "outcome": "start", "dice": dice, "seconds": 0.0}


def _fill(pool: Any, slices: Any) -> int:
    from maskloop_learner.pool.images import probe_image
    from maskloop_learner.pool.schema import Image, Project, Task

    control = {"from_name": "mask", "to_name": "image", "data_key": "image", "labels": list(slices.prompts)}
    with pool.write() as session:
        project = Project(ls_url="http://127.0.0.1", ls_id=1, title="curve", control=control, prompts=slices.prompts)
        session.add(project)
        session.flush()
        for number, name in enumerate(slices.splits["seed"] + slices.splits["pool"], 1):
            data = slices.image(name).read_bytes()
            info, digest = probe_image(data, max_megapixels=100, name=name), pool.store.put("images", data)
            session.add(Image(digest=digest, width=info.width, height=info.height, format=info.format, size=len(data)))
            session.flush()
            session.add(Task(project_id=project.id, ls_id=number, url=name, state="ready", image_digest=digest))
        return int(project.id)


def _label(pool: Any, slices: Any, project_id: int, name: str) -> None:
    from sqlalchemy import select

    from maskloop_learner.pool.schema import Label, Task, utcnow

    masks = {label: pool.store.put("masks", slices.truth(label, name).read_bytes()) for label in slices.prompts}
    with pool.write() as session:
        task = session.scalars(select(Task).where(Task.project_id == project_id, Task.url == name)).one()
        moment = utcnow() + timedelta(seconds=task.id)
        session.add(Label(task_id=task.id, ls_annotation_id=task.ls_id, masks=masks, ls_updated_at=moment))


def main() -> None:
    """Read the command line, run the seeds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--processes", type=int, default=max(1, os.cpu_count() or 1))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as workers:
        jobs = [workers.submit(run_seed, seed, options.rounds, options.batch) for seed in range(options.seeds)]
        rows = [row for job in jobs for row in job.result()]
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    labels = list(rows[0]["dice"])
    print("| seed | round | labels | outcome | " + " | ".join(labels) + " | training s |")
    print("|---" * (5 + len(labels)) + "|")
    for row in rows:
        dice = " | ".join(f"{row['dice'][label]:.3f}" for label in labels)
        print(f"| {row['seed']} | {row['round']} | {row['labels']} | {row['outcome']} | {dice} | {row['seconds']} |")


if __name__ == "__main__":
    main()
