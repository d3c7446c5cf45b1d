"""A disk that is nearly full, on a real file system of a few MB: trainings stop, labels and serving go on."""

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_fixture import Command
from file_server import file_server
from pool_fixture import TUMOR, add_label, add_model, add_project, add_task, png_bytes
from sqlalchemy import select
from test_garbage import age
from valkey_fixture import Valkey

from maskloop_backend.intake import IntakeError, Wanted, take_in
from maskloop_backend.labelstudio.client import Annotation
from maskloop_backend.masks.regions import to_regions
from maskloop_backend.sync.annotations import take_annotation
from maskloop_backend.sync.loop import Sync
from maskloop_backend.sync.upkeep import SLICE_SECONDS, Upkeep
from maskloop_learner.disk import Room, free_megabytes, measure_room
from maskloop_learner.pool.holds import hold_store
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Cursor, Event, Image, Project, Round, Task
from maskloop_learner.settings import Settings
from maskloop_queue import rounds
from maskloop_queue.queues import live_round_jobs, training_queue
from maskloop_queue.running import Place
from maskloop_queue.triggers import request_training, start_due_round
from maskloop_queue.valkey import endpoint

SIZE_MB = 64


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB, or a skipped test where none may be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "maskloop-test", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, *, leave_mb: float) -> Path:
    """A file that leaves only so much room."""
    path = folder / "something large"
    free = free_megabytes(folder) - leave_mb
    with open(path, "ab") as file:
        file.write(os.urandom(1) * int(free * 1e6))
    return path


def test_room_is_that_of_the_fullest_disk(small: Path, tmp_path: Path) -> None:
    """Home and store may lie on two; a folder that is not there yet lies where it will be made."""
    settings = Settings(home=tmp_path / "home", store_url=f"file://{small}/store", min_free_mb=1)
    room = measure_room(settings)
    assert (room.path, room.is_low) == (small / "store", False)
    assert SIZE_MB * 0.9 < room.free <= SIZE_MB * 1.05
    assert measure_room(Settings(home=small / "a" / "b", store_url="memory://x")).path == small / "a" / "b"


def test_low_and_scarce_are_two_things() -> None:
    """Trainings stop long before images do."""

    def state(free: float) -> tuple[bool, bool]:
        room = Room(Path("/x"), free, 1000)
        return room.is_low, room.is_scarce

    assert [state(free) for free in (1000, 999, 250, 249)] == [
        (False, False),
        (True, False),
        (True, False),
        (True, True),
    ]
    assert not Room(Path("/x"), 0.0, 0).is_low, "0: nobody looks"
    assert "249 MB are free in /x" in str(Room(Path("/x"), 249.0, 1000))


def annotation(number: int) -> Annotation:
    """A submitted box."""
    mask = np.zeros((16, 24), bool)
    mask[:8, :number] = True
    at = datetime(2026, 1, 5, tzinfo=UTC)
    regions = to_regions({"Tumor": mask}, controls=[TUMOR], region_prefix="r")
    fields: dict[str, Any] = {"id": 31, "task": 5, "result": regions, "author": None, "cancelled": False}
    return Annotation(**fields, ground_truth=False, lead_time=3.5, parent_prediction=None, created_at=at, updated_at=at)


def test_trainings_wait_while_labels_go_in(small: Path, shared_valkey: Valkey) -> None:
    """And begin by themselves once there is room: the request is kept, no failure is counted."""
    conn = shared_valkey.connect()
    url = endpoint(shared_valkey.settings.home).url
    settings = Settings(home=small / "home", redis_url=url, min_free_mb=8)
    pool = Pool.open(settings)
    project = add_project(pool)
    task = add_task(pool, project, 5)
    add_label(pool, add_task(pool, project, 6))
    request_training(pool, project, cause="cli")
    large = fill(small, leave_mb=4)
    loop = Sync(pool=pool, settings=settings)
    with pool.read() as session:
        row = session.get_one(Project, project)
    loop.upkeep.step()
    loop.step(row)
    with pool.read() as session:
        assert session.scalars(select(Round)).all() == []
        stored, image = session.get_one(Task, task), session.scalars(select(Image)).first()
    assert take_annotation(pool, row, stored, image, annotation(4), authors={})
    large.unlink()
    loop.upkeep._look_at = 0.0
    loop.upkeep.step()
    loop.step(row)
    with pool.read() as session:
        opened = session.scalars(select(Round)).one()
        assert (opened.state, opened.failures, opened.attempts) == ("queued", 0, 0)
        told = [event for event in session.scalars(select(Event).order_by(Event.id)) if "disk" in event.kind]
    assert [event.kind for event in told] == ["disk.low", "disk.low.over"]
    assert "MB are free" in told[0].data["reason"]
    assert live_round_jobs(conn) == {opened.id}
    assert training_queue(conn).count == 1
    pool.close()


@pytest.mark.parametrize("left_mb", [4.0, 20.0])
def test_a_training_stops_at_a_checkpoint_and_counts_no_failure(small: Path, left_mb: float) -> None:
    """The disk fills up while it runs: the round waits in the pool, and goes on when there is room again.

    Of the two, one has no room for the checkpoint itself.
    """
    settings = Settings(home=small / "home", min_free_mb=24, train_steps=4, samples=2, device="cpu")
    pool = Pool.open(settings)
    project = add_project(pool)
    for task in (1, 2):
        add_label(pool, add_task(pool, project, task))
    request_training(pool, project, cause="cli")
    number = start_due_round(pool, project, settings)
    assert number is not None
    large: list[Path] = []
    place = Place(settings)

    def report(progress: dict[str, Any]) -> None:
        if not large:
            large.append(fill(small, leave_mb=left_mb))
            place._room_at = 0.0

    rounds.run(pool, number, settings, report, place.should_stop_training)
    assert not place.should_stop(), "the worker itself goes on: its queue would give it the same job at once"
    with pool.read() as session:
        row = session.get_one(Round, number)
        assert (row.state, row.failures, row.attempts, row.model_id) == ("queued", 0, 0, None)
    assert (settings.home / "training" / f"round-{number}" / "checkpoint.pt").exists() == (left_mb > 10)
    large[0].unlink()
    place._room_at = 0.0
    rounds.run(pool, number, settings, report, place.should_stop_training)
    with pool.read() as session:
        assert session.get_one(Round, number).state == "promoted"
    pool.close()


def test_a_full_disk_costs_no_image_and_ends_no_loop(small: Path, tmp_path: Path) -> None:
    """The image is asked for again; the task is not marked as broken. With little room it is not even fetched."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.png").write_bytes(png_bytes(1, width=500, height=500))
    with file_server(tmp_path / "files") as server:
        host = f"127.0.0.1:{server.server_port}"
        url = f"http://{host}"
        settings = Settings(home=small / "home", min_free_mb=0, image_hosts=host)
        pool = Pool.open(settings)
        project = add_project(pool)
        with pool.write() as session:
            session.add(Task(project_id=project, ls_id=1, part="image", url=f"{url}/a.png", state="new"))
        large = fill(small, leave_mb=0.3)
        wanted = Wanted(project, "http://127.0.0.1:1", 1, "image", {"image": f"{url}/a.png"})

        def take(options: Settings) -> None:
            take_in(wanted, pool=pool, settings=options, headers_for=lambda _: {}, timeout=5.0)

        with pytest.raises(IntakeError, match=r"cannot be stored in file://.*No space left on device"):
            take(settings)
        assert list(pool.store.list_blobs("images")) == []
        with pytest.raises(IntakeError, match="trainings and new images wait"):
            take(settings.model_copy(update={"min_free_mb": 8}))
        with pool.read() as session:
            task = session.scalars(select(Task)).one()
            assert (task.state, task.error, task.attempts) == ("new", None, 0)
        large.unlink()
        take(settings)
        with pool.read() as session:
            assert session.scalars(select(Task.state)).one() == "ready"
        pool.close()


def test_clean_up_goes_on_by_itself(pool: Pool, settings: Settings, shared_valkey: Valkey) -> None:
    """A slice of the store at a time; a broken manifest is logged and ends nothing."""
    settings.redis_url = endpoint(shared_valkey.settings.home).url
    lost = [pool.store.put("masks", bytes([number])) for number in range(64)]
    age(pool)
    upkeep = Upkeep(pool=pool, settings=settings, conn=shared_valkey.connect(), beat=lambda: None)
    counts = []
    for period in range(16):
        with pool.write() as session:
            session.merge(Cursor(name="store-slice", position=-1))
        upkeep._look_at, upkeep.now = 0.0, partial(float, period * SLICE_SECONDS)
        upkeep.step()
        counts.append(len(list(pool.store.list_blobs("masks"))))
    assert counts[0] > counts[7] > counts[15] == 0
    assert sorted(counts, reverse=True) == counts
    assert len(set(lost)) == 64


def test_the_clean_command_says_what_goes(pool: Pool, command: Command) -> None:
    """With --dry-run nothing does; what is referred to never does."""
    project = add_project(pool)
    add_label(pool, add_task(pool, project, 1))
    add_model(pool, project)
    pool.store.put("masks", b"left over")
    age(pool)
    code, out, err = command("clean", "--dry-run")
    assert (code, err) == (0, "")
    assert "1 blobs that nothing refers to would go" in out
    code, out, _ = command("clean", "--json")
    figures = json.loads(out)
    assert (figures["blobs"], figures["bytes"]) == (
        {"images": 0, "masks": 1, "maps": 0, "weights": 0, "manifests": 0},
        9,
    )
    assert json.loads(command("clean", "--json")[1])["blobs"]["masks"] == 0
    with hold_store(pool, "backup"):
        assert "a backup is being made" in command("clean")[2]
