"""A person's `maskloop rollback` on the demo, and a champion whose file is cut short, with a real Label Studio."""

import json
import time
from collections.abc import Iterator

import pytest
from demo_fixture import Demo, wait_for
from registry_fixture import damage, weights_file

from maskloop_backend.labelstudio.client import LabelStudio
from maskloop_learner.pool.schema import Champion

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SECONDS = 10.0
"""Within which a rollback must be seen by annotators."""


@pytest.fixture(scope="module")
def admin(demo: Demo) -> Iterator[LabelStudio]:
    """The demo's user."""
    with demo.client() as client:
        yield client


def champion_of(demo: Demo) -> Champion:
    """The row as it is now."""
    with demo.pool.read() as session:
        return session.get_one(Champion, demo.project().id)


def serve_two(demo: Demo, admin: LabelStudio) -> tuple[str, str]:
    """See that two models were served; returns the versions of the one before and of the champion."""
    demo.settle()
    before = demo.version()
    busy = admin.busy_tasks(demo.ls_id)
    tasks = [row.ls_id for row in reversed(demo.ranking()) if row.ls_id not in busy][:3]
    for task in tasks:
        # From the same labels the same weights would be learnt, to the bit.
        demo.answer(admin, task)
    wait_for("the labels in the pool", lambda: all(demo.live(task) for task in tasks), 40.0)
    trained = demo.command("train", "--json")
    assert trained.returncode == 0, trained.stdout + trained.stderr
    demo.settle()
    assert demo.version() != before, json.loads(trained.stdout)
    return before, demo.version()


def test_a_rollback_is_seen_within_ten_seconds(demo: Demo, admin: LabelStudio) -> None:
    """The command waits for it and says how long it took; every worker predicts with the model that serves."""
    before, after = serve_two(demo, admin)
    took = []
    for wanted in (before, after, before):
        started = time.monotonic()
        done = demo.command("rollback", "--json", "--reason", "a test")
        assert done.returncode == 0, done.stdout + done.stderr
        told = json.loads(done.stdout)
        took.append(told["served_after"])
        assert told["version"] == wanted == admin.project(demo.ls_id).model_version
        whole = time.monotonic() - started
        print(f"\nserved {took[-1]:.2f} s after the change, {whole:.2f} s with the command's own start")
    assert max(took) < SECONDS
    assert demo.command("models", "verify").returncode == 0
    demo.settle()
    assert champion_of(demo).pinned


def test_new_images_do_not_hold_a_rollback_up(demo: Demo, admin: LabelStudio) -> None:
    """Images that the model before has never seen are predicted afterwards."""
    picture = next((demo.home / "demo" / "images").glob("*.png")).read_bytes()
    files = [(f"late-{number}.png", picture + bytes([number])) for number in range(6)]
    addresses = admin.upload_files(demo.ls_id, files)
    tasks = admin.import_tasks(demo.ls_id, [{"data": {"image": address, "name": "late"}} for address in addresses])
    demo.settle()
    told = json.loads(demo.command("rollback", "--json").stdout)
    print(f"\nwith {len(tasks)} images that it has not predicted: {told['served_after']:.2f} s")
    assert told["served_after"] < SECONDS
    assert admin.project(demo.ls_id).model_version == told["version"]
    demo.settle()
    for task in tasks:
        admin.delete_task(task)
    wait_for("the deletions in the pool", lambda: demo.task(tasks[-1]).deleted_at, 40.0)


def test_a_champion_that_is_cut_short_is_replaced(demo: Demo, admin: LabelStudio) -> None:
    """Its file is refused by digest, the model before serves, and an intact copy makes it whole again."""
    row = champion_of(demo)
    exported = demo.home / "champion.zip"
    assert demo.command("models", "export", "champion", "--out", str(exported)).returncode == 0
    damage(weights_file(demo.pool, row.model_id), "removed")
    took = wait_for("the model before", lambda: champion_of(demo).model_id != row.model_id, 30.0)
    served = wait_for(
        "Label Studio to serve it", lambda: admin.project(demo.ls_id).model_version == demo.version(), 30.0
    )
    print(
        f"\nthe champion's file was removed: noticed after {took:.1f} s, the model before served {served:.1f} s later"
    )
    assert champion_of(demo).changed_by == "verification"
    broken = demo.command("models", "verify")
    assert (broken.returncode, f"Model {row.model_id}, weights" in broken.stdout) == (1, True)
    told = demo.command("models", "import", str(exported), "--project", str(demo.ls_id))
    assert told.returncode == 0, told.stderr
    assert demo.command("models", "verify").returncode == 0
    back = json.loads(demo.command("models", "promote", str(row.model_id), "--json").stdout)
    assert back["version"] == admin.project(demo.ls_id).model_version
    demo.settle()
