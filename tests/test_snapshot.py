"""Snapshots: what is frozen, by which groups it is split, and that the same labels give the same digest."""

import json
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pool_fixture import add_label, add_project, add_task, png_bytes
from sqlalchemy import select

from maskloop_learner.pool.manifest import newest_manifest
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Event, Image, Label, Project, Snapshot, Task
from maskloop_learner.pool.snapshot import Manifest, freeze_snapshot, load_manifest


def freeze(pool: Pool, project: int, **how: Any) -> Manifest:
    """Freeze the labels of today and read what was frozen."""
    snapshot = freeze_snapshot(pool, project, **{"share": 0.3, **how})
    with pool.read() as session:
        return load_manifest(pool, session.get_one(Snapshot, snapshot))


def group_by(pool: Pool, project: int, grouping: dict[str, str]) -> None:
    with pool.write() as session:
        session.get_one(Project, project).grouping = grouping


def set_data(pool: Pool, task: int, **data: Any) -> None:
    with pool.write() as session:
        session.get_one(Task, task).data = data


def add_patient(pool: Pool, project: int, patient: int, slices: int, *, site: str = "north") -> list[int]:
    """Labelled slices of one patient; returns the tasks."""
    tasks = []
    for number in range(slices):
        ls_id = 100 * patient + number
        tasks.append(add_task(pool, project, ls_id))
        set_data(pool, tasks[-1], patient=f"P{patient}", site=site)
        add_label(pool, tasks[-1], minute=ls_id)
    return tasks


def sides(manifest: Manifest) -> dict[str, set[str]]:
    """Group -> the sides it is on."""
    found: dict[str, set[str]] = {}
    for item in manifest["items"]:
        found.setdefault(item["group"], set()).add(item["split"])
    return found


def test_a_patient_is_on_one_side_and_stays_there(pool: Pool) -> None:
    """New slices follow their patient, also where all that was labelled of it before is gone."""
    project = add_project(pool)
    group_by(pool, project, {"field": "patient", "source": "site"})
    patients = {number: add_patient(pool, project, number, 3) for number in range(1, 6)}
    first = freeze(pool, project)
    assert all(len(found) == 1 for found in sides(first).values())
    assert {item["source"] for item in first["items"]} == {"north"}
    validating = {name for name, found in sides(first).items() if found == {"validation"}}
    assert validating
    gone = int(min(validating)[1:])
    with pool.write() as session:
        for label in session.scalars(select(Label).where(Label.task_id.in_(patients[gone]))):
            label.current = False
    later = add_task(pool, project, 100 * gone + 50)
    set_data(pool, later, patient=f"P{gone}", site="north")
    add_label(pool, later)
    second = freeze(pool, project)
    assert {name: found for name, found in sides(second).items() if name in sides(first)} == sides(first)
    assert sides(second)[f"P{gone}"] == {"validation"}
    assert set(first["validation"]) < set(second["validation"]), "images without a label stay out of training for ever"


def test_what_was_learnt_from_does_not_validate_later(pool: Pool) -> None:
    """The share grows: patients that are new make up for it, if there are any."""
    project = add_project(pool)
    group_by(pool, project, {"field": "patient"})
    for number in range(1, 9):
        add_patient(pool, project, number, 1)
    first = freeze(pool, project, share=0.2)
    second = freeze(pool, project, share=0.6)
    assert sides(second) == sides(first)
    for number in range(11, 17):
        add_patient(pool, project, number, 1)
    third = freeze(pool, project, share=0.6)
    joined = set(third["validation"]) - set(first["validation"])
    assert joined
    assert not joined & set(second["learnt"])
    assert not set(third["validation"]) & set(third["learnt"])


def test_images_of_one_task_stay_together(pool: Pool) -> None:
    """Before and after treatment, without any rule of grouping."""
    project = add_project(pool)
    for ls_id in range(1, 9):
        for number, part in enumerate(("before", "after")):
            add_label(pool, add_task(pool, project, ls_id, data=png_bytes(10 * ls_id + number), part=part))
    manifest = freeze(pool, project)
    assert {len(found) for found in sides(manifest).values()} == {1}
    assert len(sides(manifest)) == 8
    assert len(manifest["items"]) == 16


def test_the_same_labels_have_the_same_digest(pool: Pool) -> None:
    """In whatever order the rows came to be; and again, once frozen."""
    digests = []
    for seed in range(3):
        project = add_project(pool, ls_id=seed + 1)
        numbers = list(range(1, 13))
        random.Random(seed).shuffle(numbers)
        rows: list[tuple[int, Label | Task]] = []
        for number in numbers:
            data = png_bytes(number)
            digest = pool.store.put("images", data)
            ids = 1000 * (seed + 1) + number
            task = Task(id=ids, project_id=project, ls_id=number, url=f"/x/{number}.png", state="ready", part="image")
            task.image_digest, task.data = digest, {"patient": number % 5}
            moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
            label = Label(id=ids, task_id=ids, ls_annotation_id=number, masks={}, ls_updated_at=moment)
            rows.append((number, task))
            rows.append((number, label))
            with pool.write() as session:
                if session.get(Image, digest) is None:
                    session.add(Image(digest=digest, width=24, height=16, format="PNG", size=len(data)))
        with pool.write() as session:
            session.get_one(Project, project).grouping = {"field": "patient"}
            for _, row in rows:
                session.add(row)
                session.flush()
        found = [freeze(pool, project) for _ in range(2)]
        assert found[0] == found[1]
        text = json.dumps(found[0], sort_keys=True)
        for number in numbers:
            text = text.replace(f"{1000 * (seed + 1) + number}", f"id {number}")
        digests.append(text.replace(f'"project": {project}', '"project": 0'))
    assert digests[0] == digests[1] == digests[2]


def test_snapshots_of_earlier_releases_keep_their_split(pool: Pool) -> None:
    """They know no groups; what validated validates, what was learnt from does not."""
    project = add_project(pool)
    tasks = [add_task(pool, project, number) for number in range(1, 9)]
    for task in tasks:
        add_label(pool, task)
    with pool.read() as session:
        images = [session.get_one(Task, task).image_digest for task in tasks]
    old = {"project": project, "labels": ["Tumor"], "prompts": {}, "validation": images[:1], "items": []}
    old["items"] = [
        {"image": image, "label_id": number, "split": "validation" if number == 0 else "train"}
        for number, image in enumerate(images[:6])
    ]
    blob = pool.store.put("manifests", json.dumps(old).encode())
    with pool.write() as session:
        session.add(Snapshot(project_id=project, digest=blob, label_ids=[]))
    manifest = freeze(pool, project, share=0.5)
    split = {item["image"]: item["split"] for item in manifest["items"]}
    assert [split[str(image)] for image in images[:6]] == ["validation", *["train"] * 5]
    assert {split[str(image)] for image in images[6:]} == {"validation"}


def test_an_item_tells_which_annotations_it_was_made_of(pool: Pool) -> None:
    project = add_project(pool)
    task = add_task(pool, project, 1)
    label = add_label(pool, task)
    with pool.write() as session:
        row = session.get_one(Label, label)
        row.author, row.version = "ann@example.org", 3
    [item] = freeze(pool, project)["items"]
    assert item["annotations"] == [
        {"label": label, "annotation": 1000 + task, "version": 3, "author": "ann@example.org"}
    ]
    assert item["group"] == item["image"]
    assert "blind" not in item
    assert "source" not in item


def warn(pool: Pool, project: int) -> list[str]:
    return freeze(pool, project)["warnings"]


def test_a_single_group_is_told(pool: Pool) -> None:
    """In the manifest and in the event log."""
    project = add_project(pool)
    group_by(pool, project, {"field": "patient"})
    add_patient(pool, project, 1, 3)
    [said] = warn(pool, project)
    assert "all 3 labelled images are of one group ('P1')" in said
    with pool.read() as session:
        [event] = session.scalars(select(Event).where(Event.kind == "snapshot.frozen"))
    assert event.data["warnings"] == [said]


def test_labels_that_nothing_validates_are_told(pool: Pool) -> None:
    project = add_project(pool, labels=("Tumor", "Cyst"))
    for number in range(1, 5):
        add_label(pool, add_task(pool, project, number))
    [said] = warn(pool, project)
    assert "'Cyst' is on no image that validates" in said
    with pool.write() as session:
        manifest = newest_manifest(pool, session, project)
        assert manifest is not None
        for label in session.scalars(select(Label)):
            task = session.get_one(Task, label.task_id)
            label.known = ["Tumor"] if task.image_digest in manifest["validation"] else None
    [said] = warn(pool, project)
    assert "'Cyst' was looked for on no image that validates" in said


def test_a_new_rule_moves_learnt_images_only_with_what_validates(pool: Pool) -> None:
    """Grouping by patient comes late: the images that must move are told, once."""
    project = add_project(pool)
    for number in (1, 2, 3):
        add_patient(pool, project, number, 4)
    before = freeze(pool, project)
    group_by(pool, project, {"field": "patient"})
    after = freeze(pool, project)
    assert set(before["validation"]) <= set(after["validation"])
    assert all(len(found) == 1 for found in sides(after).values())
    moved = set(after["validation"]) - set(before["validation"])
    assert moved
    assert any(f"{len(moved)} images validate from now on" in said for said in after["warnings"])
    assert not any("from now on" in said for said in warn(pool, project))


@pytest.mark.slow
def test_ten_thousand_labels_freeze_in_seconds(pool: Pool) -> None:
    """Random looks and groups of ten; images and masks are not read."""
    project = add_project(pool)
    fill(pool, project, 10_000, lambda number: f"P{number // 10}")
    group_by(pool, project, {"field": "patient"})
    started = time.perf_counter()
    manifest = freeze(pool, project)
    seconds = time.perf_counter() - started
    print(f"10,000 labels: {seconds:.1f} s")
    assert len(manifest["items"]) == 10_000
    assert seconds < 60


def fill(pool: Pool, project: int, count: int, patient: Callable[[int], str]) -> None:
    """Labelled images that exist in the database alone."""
    rng = random.Random(0)
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    with pool.write() as session:
        session.add_all(
            Image(
                digest=f"{number:064x}",
                width=8,
                height=8,
                format="PNG",
                size=1,
                phash=rng.randbytes(8).hex(),
                thumbnail=rng.randbytes(256).hex(),
            )
            for number in range(count)
        )
        session.flush()
        for number in range(count):
            task = Task(id=number + 1, project_id=project, ls_id=number + 1, part="image", url=f"{number}.png")
            task.state, task.image_digest, task.data = "ready", f"{number:064x}", {"patient": patient(number)}
            session.add(task)
        session.flush()
        session.add_all(
            Label(task_id=number + 1, ls_annotation_id=number, masks={"Tumor": "0" * 64}, ls_updated_at=moment)
            for number in range(count)
        )


@pytest.mark.parametrize("grouping", [{"field": "patient"}, {"pattern": r"^(\d+)"}])
def test_a_key_that_waits_for_sync_counts_already(pool: Pool, grouping: dict[str, str]) -> None:
    """The rule was changed a moment ago and `Task.group_key` has not followed yet."""
    project = add_project(pool)
    group_by(pool, project, grouping)
    tasks = add_patient(pool, project, 1, 1)
    [item] = freeze(pool, project)["items"]
    assert item["group"] in ("P1", "100")
    with pool.read() as session:
        assert session.get_one(Task, tasks[0]).group_key == ""
