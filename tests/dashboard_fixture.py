"""A small pool as a dashboard shows it: drawn slices with masks, maps, scores, labels, a batch and two versions."""

import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from pool_fixture import add_model, add_project, add_task
from scipy import ndimage
from web_fixture import add_version

from maskloop_learner.pool.maps import encode_map
from maskloop_learner.pool.masks import encode_mask
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import (
    Batch,
    BatchItem,
    Label,
    Prediction,
    PredictionVersion,
    Project,
    Rank,
    Score,
    Task,
)
from maskloop_learner.predict.aggregate import aggregate

LABELS = ("Tumor", "Cyst")
MEASURES = ("predictive_entropy", "expected_entropy", "mutual_information", "variance")
WIDTH, HEIGHT = 320, 240
Grey = NDArray[np.float32]


@dataclass(frozen=True)
class Site:
    """What was made."""

    project: int
    version: str
    before: str
    tasks: list[int]


def slice_of(seed: int) -> tuple[Grey, dict[str, Grey]]:
    """Something like a scan, 0..1, and each label's probability."""
    dice = np.random.default_rng(seed)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    noise = ndimage.gaussian_filter(dice.normal(size=(HEIGHT, WIDTH)), 3)
    body = 1 / (1 + np.exp(((rows - 120) ** 2 / 95**2 + (columns - 160) ** 2 / 130**2 - 1) * 12))
    image = body * (0.42 + 0.5 * noise / np.abs(noise).max() * 0.4)
    chances: dict[str, Grey] = {}
    for label, (radius, bright) in zip(LABELS, ((28, 0.4), (16, -0.25)), strict=True):
        row, column = dice.uniform(80, 160), dice.uniform(90, 230)
        stretch, blur = dice.uniform(0.7, 1.4), dice.uniform(1.5, 9)
        far = np.hypot((rows - row) * stretch, columns - column) - radius * dice.uniform(0.7, 1.2)
        chances[label] = (1 / (1 + np.exp(np.clip(far / blur, -50, 50)))).astype(np.float32)
        image = image + bright * chances[label] * body
    return np.clip(image, 0, 1).astype(np.float32), chances


def entropy_of(p: Grey) -> Grey:
    """Binary entropy, 0..1."""
    q = np.clip(p.astype(np.float64), 1e-9, 1 - 1e-9)
    found: Grey = (-(q * np.log2(q) + (1 - q) * np.log2(1 - q))).astype(np.float32)
    return found


def picture(image: Grey) -> bytes:
    """As PNG."""
    out = io.BytesIO()
    Pillow.fromarray((image * 255).astype(np.uint8)).convert("RGB").save(out, "PNG")
    return out.getvalue()


def add_answer(pool: Pool, version: str, task: int, chances: dict[str, Grey], *, ranks: bool = True) -> None:
    """A prediction with masks, maps and all scores, and its rank."""
    scores: list[Score] = []
    aggregates: dict[str, Any] = {}
    for label, p in chances.items():
        mask, entropy = p > 0.5, entropy_of(p)
        maps = dict(zip(MEASURES, (entropy, entropy * 0.7, entropy * 0.3, p * (1 - p) * 0.2), strict=True))
        aggregates[label] = {name: aggregate(values, mask) for name, values in maps.items()}
        scores.append(
            Score(
                label=label,
                prompt=f"{label.lower()} in a scan",
                prompt_source="default",
                mask_digest=pool.store.put("masks", encode_mask(mask)),
                map_digest=pool.store.put("maps", encode_map(entropy, width=WIDTH, height=HEIGHT)),
                area=int(mask.sum()),
                probability=float(p[mask].mean()) if mask.any() else 0.0,
                aggregates=aggregates[label],
                method="monte-carlo",
                samples=30,
                **{name: float(values.mean()) for name, values in maps.items()},
            )
        )
    uncertainty = round(max(score.predictive_entropy for score in scores), 9)
    with pool.write() as session:
        digest = session.get_one(Task, task).image_digest or ""
        place: dict[str, Any] = {"version_id": version, "image_digest": digest, "uncertainty": uncertainty}
        if ranks:
            session.add(Rank(**place, aggregates=aggregates, method="monte-carlo", samples=30))
        prediction = Prediction(**place)
        session.add(prediction)
        session.flush()
        for score in scores:
            score.prediction_id = prediction.id
            session.add(score)


def make_site(pool: Pool, count: int = 24) -> Site:
    """`count` images: the first two labelled, the third skipped, one failed, one not predicted; a batch of five."""
    project = add_project(pool, labels=LABELS)
    before, version = "maskloop-aaaaaaaaaaaa", "maskloop-bbbbbbbbbbbb"
    for name in (before, version):
        add_version(pool, project, add_model(pool, project, name.encode()), name)
    tasks: list[int] = []
    for number in range(1, count + 1):
        image, chances = slice_of(number)
        tasks.append(add_task(pool, project, number, data=picture(image)))
        if number != 5:
            add_answer(pool, version, tasks[-1], chances)
            blurred = {label: ndimage.gaussian_filter(p, 5) for label, p in chances.items()}
            add_answer(pool, before, tasks[-1], blurred)
    with pool.write() as session:
        row = session.get_one(Project, project)
        row.title, row.served_version = "Breast ultrasound", version
        made = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
        session.get_one(PredictionVersion, before).created_at = made
        session.get_one(PredictionVersion, version).created_at = made + timedelta(days=2)
        for number, task in enumerate(tasks):
            found = session.get_one(Task, task)
            found.group_key, found.data = f"P{number // 3:03d}", {"name": f"scan_{number + 1:04d}.png"}
        session.add(Task(project_id=project, ls_id=900, part="image", url="/x", state="failed", error="it is no image"))
        batch = Batch(project_id=project, number=1, strategy="diverse", version_id=version, created_by="lead")
        session.add(batch)
        session.flush()
        for place, task in enumerate(tasks[6:11], 1):
            reason = f"number {place} of {count - 3} by uncertainty, and unlike the others of the batch"
            item = {"task_id": task, "position": place, "slot": "diverse", "score": 0.4, "reason": reason}
            session.add(BatchItem(batch_id=batch.id, **item))
    for task in tasks[:3]:
        add_drawn(pool, task, cancelled=task == tasks[2])
    return Site(project, version, before, tasks)


def add_drawn(pool: Pool, task: int, *, cancelled: bool = False) -> None:
    """What an annotator drew, or that the task was skipped."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[100:150, 120:190] = True
    with pool.write() as session:
        session.add(
            Label(
                task_id=task,
                ls_annotation_id=task,
                masks={} if cancelled else {"Tumor": pool.store.put("masks", encode_mask(mask))},
                cancelled=cancelled,
                author="annotator 1",
                lead_time=41.0,
                ls_updated_at=datetime(2026, 1, 6, tzinfo=UTC),
            )
        )
