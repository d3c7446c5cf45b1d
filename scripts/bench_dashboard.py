"""Seconds that the dashboard's pages take over a large pool: synthetic rows, real HTTP, one request at a time.

Every row that a page reads is there (tasks, images, ranks with all their scores, predictions, scores, labels, a
batch); the images' bytes are the same few pictures. The machine should be idle.

    python scripts/bench_dashboard.py --images 100000
"""

import argparse
import json
import random
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import uvicorn
from sqlalchemy import insert, select, update

from maskloop_backend.credentials import Credentials
from maskloop_backend.labelstudio.controls import Control, Interface
from maskloop_backend.web.app import create_app
from maskloop_backend.web.dashboard.wishes import MOST
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import (
    Base,
    Batch,
    BatchItem,
    Champion,
    Event,
    Image,
    Label,
    Model,
    Prediction,
    PredictionVersion,
    Project,
    Rank,
    Round,
    Score,
    Snapshot,
    Task,
)
from maskloop_learner.predict.aggregate import AGGREGATIONS
from maskloop_learner.settings import Settings

MEASURES = ("predictive_entropy", "expected_entropy", "mutual_information", "variance")
LABELS = ("Tumor", "Cyst")
VERSION = "maskloop-000000000000"
ROWS = 5000
LABELLED, IN_BATCH, PATIENT = 0.02, 100, 7
START = datetime(2026, 1, 1, tzinfo=UTC)
REPEATS = 7
MODELS, EVENTS = 100, 50_000
"""Models of the project, and events of other kinds in its log."""
WARM_UP = 15.0
"""Seconds for 100,000 images in which the scores are read beside the requests, as after a start."""
PAGES = (
    "/",
    "/work",
    "/work/live",
    "/images",
    "/images?by=mutual_information/patch_max",
    "/images?state=labelled",
    "/images?state=skipped",
    "/images?state=waiting",
    "/images?state=failed",
    "/images?state=all",
    "/images?label=Cyst",
    "/images?batch=1",
    "/images?group=P0001",
    "/batches",
    "/batches/1",
    "/batches/1/state",
    "/images/count",
    "/images/1",
    "/api/images?limit=500",
    "/models",
    "/models/live",
    f"/models/{MODELS}",
    "/report",
    "/annotators",
    "/annotators?period=all",
    "/annotators.csv?period=all",
)


def fill(pool: Pool, count: int, *, seed: int = 0, labelled: float = LABELLED) -> int:
    """`count` images in one project, two labels each; returns the project's number in Label Studio."""
    dice = random.Random(seed)
    control = Interface((Control("brush", "mask", "image", "image", LABELS),)).as_json()
    with pool.write() as session:
        project = Project(ls_url="http://127.0.0.1:1", ls_id=7, title="Synthetic", control=control)
        session.add(project)
        session.flush()
        model = Model(project_id=project.id, weights_digest="0" * 64, backbone="nano", labels=list(LABELS))
        session.add(model)
        session.flush()
        session.add(PredictionVersion(id=VERSION, project_id=project.id, model_id=model.id, config={}))
        session.flush()
        session.add(Champion(project_id=project.id, model_id=model.id, version_id=VERSION))
        project.served_version = VERSION
        number = project.id
    for start in range(0, count, ROWS):
        write_rows(pool, number, range(start, min(start + ROWS, count)), dice, labelled)
    with pool.write() as session:
        batch = Batch(project_id=number, number=1, strategy="uncertainty", version_id=VERSION)
        session.add(batch)
        session.flush()
        chosen = session.execute(select(Task.id).order_by(Task.id).limit(IN_BATCH).offset(count // 2)).scalars()
        rows = [
            {"batch_id": batch.id, "task_id": task, "position": place, "slot": "uncertain", "reason": "uncertain"}
            for place, task in enumerate(chosen, 1)
        ]
        session.execute(insert(BatchItem), rows)
    write_models(pool, number, labels=round(count * LABELLED))
    with pool.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE")
        connection.commit()
    return 7


def write_rows(pool: Pool, project: int, numbers: range, dice: random.Random, labelled: float) -> None:
    """The rows of some images."""
    now = datetime.now(UTC)
    rows: dict[type[Base], list[dict[str, Any]]] = {kind: [] for kind in (Image, Task, Rank, Prediction, Score, Label)}
    for n in numbers:
        digest = f"{n:064x}"
        figures = {
            label: {measure: {way: dice.random() for way in AGGREGATIONS} for measure in MEASURES} for label in LABELS
        }
        uncertainty = round(max(each["predictive_entropy"]["mean"] for each in figures.values()), 9)
        place = {"version_id": VERSION, "image_digest": digest, "uncertainty": uncertainty}
        rows[Image].append({"digest": digest, "width": 512, "height": 384, "format": "PNG", "size": 1000})
        rows[Task].append(
            {
                "id": n + 1, "project_id": project, "ls_id": n + 1, "part": "image", "state": "ready",
                "url": f"/data/upload/7/{n:08x}-slice_{n}.png", "image_digest": digest,
                "group_key": f"P{n // PATIENT:05d}", "created_at": START + timedelta(seconds=n),
            }
        )  # fmt: skip
        rows[Rank].append({**place, "aggregates": figures, "method": "mean-value", "samples": 1})
        rows[Prediction].append({"id": n + 1, **place})
        for label, aggregates in figures.items():
            means = {measure: aggregates[measure]["mean"] for measure in MEASURES}
            rows[Score].append(
                {
                    "prediction_id": n + 1, "label": label, "mask_digest": digest, "area": 100, "method": "mc",
                    "samples": 30, "aggregates": aggregates, **means,
                }
            )  # fmt: skip
        if dice.random() < labelled:
            left = dice.random() < 0.4
            rows[Label].append(
                {
                    "task_id": n + 1, "ls_annotation_id": n + 1, "author": f"annotator {dice.randrange(5)}",
                    "ls_updated_at": now - timedelta(days=80 * dice.random()), "lead_time": dice.lognormvariate(3, 1),
                    "shown": "model" if dice.random() < 0.9 else "blind", "shown_version": VERSION, "unedited": left,
                    "agreement": {label: 1.0 if left else dice.random() for label in LABELS},
                }
            )  # fmt: skip
    with pool.write() as session:
        for kind, some in rows.items():
            if some:
                session.execute(insert(kind), some)


def write_models(pool: Pool, project: int, *, labels: int) -> None:
    """Models beside the one that serves, each of a round with all figures, on up to so many labels."""
    bins = [[k / 15, k / 15, 100] for k in range(15)]
    figure = {"mean": 0.7, "low": 0.6, "high": 0.8, "images": 100}
    slices = [
        {"kind": "label", "name": label, "images": 100, "champion": 0.6, "challenger": 0.7, "counted": True,
         "passed": True} for label in LABELS
    ]  # fmt: skip
    decision = {"outcome": "promote", "reason": "it is better", "champion": 0.6, "challenger": 0.7, "slices": slices}
    metrics = {
        "validation": {label: {"challenger": 0.7, "champion": 0.6} for label in LABELS},
        "decision": "it is better",
        "gate": decision,
        "loss": [[step, 1 / step] for step in range(1, 101)],
        "calibration": {label: {"ece": 0.05} for label in LABELS},
        "dice": {"overall": figure, "labels": dict.fromkeys(LABELS, figure)},
        "reliability": dict.fromkeys(LABELS, bins),
    }
    with pool.write() as session:
        for n in range(1, MODELS):
            count = max(1, labels * n // (MODELS - 1))
            items = [
                {"label_id": k, "task_id": k, "ls_task": k, "name": f"slice_{k}.png", "image": f"{k:064x}",
                 "masks": {"Tumor": f"{k:064x}"}, "split": "validation" if k % 5 == 0 else "train"}
                for k in range(count)
            ]  # fmt: skip
            manifest = {"project": 7, "labels": LABELS, "prompts": {}, "validation": [], "items": items}
            digest = pool.store.put("manifests", json.dumps(manifest).encode())
            snapshot = Snapshot(project_id=project, digest=digest, label_ids=list(range(count)))
            session.add(snapshot)
            session.flush()
            model = Model(project_id=project, weights_digest=f"{n:064x}", backbone="nano", labels=list(LABELS))
            model.snapshot_id, model.parent_id, model.metrics = snapshot.id, n, metrics
            session.add(model)
            session.flush()
            ended = {"state": "promoted", "reason": "it is better", "decision": decision}
            session.add(Round(project_id=project, snapshot_id=snapshot.id, cause="labels", model_id=model.id, **ended))
            data = {"model": model.id, "previous": n, "fence": n, "by": f"round {n}", "pinned": False}
            session.add(Event(project_id=project, kind="champion.changed", subject=VERSION, data=data))
        others = [{"project_id": project, "kind": "prompt.typed", "data": {}} for _ in range(EVENTS)]
        session.execute(insert(Event), others)


@contextmanager
def serving(pool: Pool, settings: Settings) -> Iterator[httpx.Client]:
    """The web process's application in this process, over HTTP on a free port."""
    credentials = Credentials("maskloop", "a password for nobody but this")
    app = create_app(pool, settings=settings, credentials=credentials, headers_for=lambda _: {})
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        auth = (credentials.username, credentials.password)
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with httpx.Client(base_url=address, auth=auth, timeout=120) as client:
            while not server.started:
                time.sleep(0.05)
            yield client
        server.should_exit = True
        thread.join(10)


def measure(client: httpx.Client, path: str, *, note: str = "") -> dict[str, Any]:
    """Seconds of the first request and of the following ones; `note` stands after the page's name."""
    times: list[float] = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        client.get(path, headers={"Accept": "text/html"}).raise_for_status()
        times.append(time.perf_counter() - started)
    return {"page": path + note, "first": times[0], "median": statistics.median(times[1:]), "most": max(times[1:])}


def main() -> None:
    """Make the pool, ask for every page, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--labelled", type=float, default=LABELLED, help="share of the images, 0 to 1")
    parser.add_argument("--redis", default="redis://127.0.0.1:1/0", help="its address; none answers by default")
    parser.add_argument("--pages", nargs="*", default=list(PAGES), help="addresses; all when left out")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), redis_url=given.redis)
        pool = Pool.open(settings)
        fill(pool, given.images, labelled=given.labelled)
        before = psutil.Process().memory_info().rss
        with serving(pool, settings) as client:
            time.sleep(WARM_UP * given.images / 100_000)
            middle = walk_to(client, given.images // 4)
            rows = [measure(client, path) for path in (*given.pages, f"/images?after={middle}")]
            with pool.write() as session:
                session.execute(update(Project).values(served_version=None))
            rows += [measure(client, path, note=", not served yet") for path in ("/models", "/models/live")]
        memory = (psutil.Process().memory_info().rss - before) / 1e6
        pool.close()
    if given.json:
        print(json.dumps({"images": given.images, "pages": rows, "memory_mb": memory}, indent=2))
        return
    print(f"{given.images} images; seconds: the first request, the median of {REPEATS} more, the slowest of these")
    for row in rows:
        print(f"{row['first']:7.3f} {row['median']:7.3f} {row['most']:7.3f}  {row['page']}")
    print(f"memory for it: {memory:.0f} MB")


def walk_to(client: httpx.Client, count: int) -> str:
    """Where a page begins after about so many images."""
    after = ""
    for _ in range(max(1, count // MOST)):
        answer = client.get("/api/images", params={"limit": MOST, "after": after}).raise_for_status().json()
        after = answer["next"] or after
    return str(after)


if __name__ == "__main__":
    main()
