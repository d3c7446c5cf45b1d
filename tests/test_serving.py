"""One order: of the pool, the API, `maskloop rank` and Label Studio, with and without an open batch."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from command_fixture import Command
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st
from pool_fixture import add_label, add_model, add_project, add_task, png_bytes
from sqlalchemy import select, update
from test_batches import open_batch
from test_ordering import Peer, order, running
from web_fixture import add_prediction, add_version, serving

from maskloop_backend.sync.push import Pusher
from maskloop_learner.pool.batches import end_batch
from maskloop_learner.pool.candidates import load_candidates
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.queries import ranking
from maskloop_learner.pool.schema import Batch, Prediction, Project, Rank, Task
from maskloop_learner.pool.serving import serving_order
from maskloop_learner.select.choosing import Options, choose
from maskloop_learner.settings import Settings

UNCERTAINTY = st.sampled_from([0.0, 1e-9, 0.25, 0.250000001, 0.5, 0.999999999, 1.0])
"""Ties, the ends, and neighbours that nine decimals tell apart."""
KIND = st.sampled_from(["drawn", "drawn", "drawn", "ranked", "new", "failed", "unreadable", "labelled", "skipped"])


@dataclass(frozen=True)
class World:
    """A dashboard and a shell over one pool; every example is a project of its own."""

    pool: Pool
    client: httpx.Client
    command: Command


@pytest.fixture
def world(pool: Pool, settings: Settings, command: Command) -> Iterator[World]:
    settings.redis_url = "redis://127.0.0.1:1/0"
    with serving(pool, settings) as client:
        yield World(pool, client, command)


@profile(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(KIND, UNCERTAINTY), min_size=1, max_size=8),
    members=st.lists(st.integers(0, 7), unique=True, max_size=4),
    pushed_before=st.booleans(),
)
def test_all_show_the_order_in_which_label_studio_serves(
    world: World, rows: list[tuple[str, float]], members: list[int], pushed_before: bool
) -> None:
    """The batch's tasks that wait, in its order; then the most uncertain; ties by id; nulls and failures last."""
    with world.pool.read() as session:
        number = len(session.scalars(select(Task.project_id).distinct()).all()) + 1
    version = f"maskloop-{number:012d}"
    project = add_project(world.pool, ls_id=number)
    add_version(world.pool, project, add_model(world.pool, project), version)
    for place, (kind, uncertainty) in enumerate(rows, 1):
        add(world.pool, project, version, place, kind, uncertainty)
    peer = Peer()
    with running(peer) as client:
        pusher = Pusher(pool=world.pool, client=client, beat=lambda: None)
        if pushed_before:
            pusher.push(project, version)
        chosen = [member + 1 for member in members if member < len(rows)]
        if chosen:
            open_batch(world.pool, project, chosen)
        pusher.push(project, version)
        assert order(world.pool, client, project, version)
    waits = {place for place, (kind, _) in enumerate(rows, 1) if kind in ("drawn", "ranked", "new")}
    known = {place for place in waits if rows[place - 1][0] != "new"}
    first = [place for place in chosen if place in waits]
    rest = sorted(known - set(first), key=lambda place: (-rows[place - 1][1], place))
    with world.pool.read() as session:
        found = serving_order(session, project, version)
        assert [row.ls_id for row in found] == first + rest
        assert [row.place for row in found[: len(first)]] == [chosen.index(place) + 1 for place in first]
        plain = [row.ls_id for row in ranking(session, project, version)]
        candidates = load_candidates(session, project, version, looks=False)
        ids = {task.id: task.ls_id for task in session.scalars(select(Task).where(Task.project_id == project))}
    wanted = first + rest
    for limit in (1, 3, 500):
        assert listed(world.client, number, limit=limit) == wanted
    assert listed(world.client, number, limit=2, by="predictive_entropy/mean") == plain
    count = world.client.get("/images/count", params={"project": number, "state": "queue"}).text
    assert count.split()[0] == str(len(wanted))
    if wanted:
        assert shell(world.command, number) == wanted
    served = peer.served(version)
    drawn = [place for place in wanted if rows[place - 1][0] == "drawn"]
    assert [place for place in served if rows[place - 1][0] == "drawn"] == drawn
    assert not {place for place in served if rows[place - 1][0] in ("failed", "unreadable", "new", "ranked")}
    if known:
        options = Options(random_share=0, keep_duplicates=True)
        picks = choose(candidates, strategy="uncertainty", size=len(waits), seed=0, options=options)
        assert [ids[pick.id] for pick in picks] == plain + sorted(waits - known), "the unscored come last, by id"


def add(pool: Pool, project: int, version: str, ls_id: int, kind: str, uncertainty: float) -> None:
    """A task of one kind; one that failed has been ranked before."""
    task = add_task(pool, project, ls_id)
    with pool.read() as session:
        digest = str(session.get_one(Task, task).image_digest)
    if kind not in ("new", "unreadable"):
        with pool.write() as session:
            rank = Rank(version_id=version, image_digest=digest, uncertainty=uncertainty, method="m", samples=1)
            session.add(rank)
            if kind == "failed":
                session.add(Prediction(version_id=version, image_digest=digest, error="it is no image"))
    if kind in ("drawn", "labelled", "skipped"):
        add_prediction(pool, version, digest, uncertainty=uncertainty)
    if kind in ("labelled", "skipped"):
        add_label(pool, task, cancelled=kind == "skipped")
    if kind == "unreadable":
        with pool.write() as session:
            session.execute(update(Task).where(Task.id == task).values(state="failed", error="it is no image"))


def listed(client: httpx.Client, project: int, **query: Any) -> list[int]:
    """Tasks of all pages of the API."""
    found: list[int] = []
    after: str | None = ""
    while after is not None:
        answer = client.get("/api/images", params={"project": project, "after": after, **query})
        found += [item["task"] for item in answer.raise_for_status().json()["items"]]
        after = answer.json()["next"]
        assert len(found) < 100, "it never ends"
    return found


def shell(command: Command, project: int) -> list[int]:
    """Tasks of `maskloop rank`."""
    code, out, said = command("rank", "--project", str(project), "--json")
    assert code == 0, said
    return [row["task"] for row in json.loads(out)["ranking"]]


def test_before_the_first_model_a_batch_has_an_order(world: World) -> None:
    """In the list, the API and the shell; its figures are not there, and are said to be not."""
    project = add_project(world.pool)
    for ls_id in (1, 2, 3):
        add_task(world.pool, project, ls_id)
    code, _, said = world.command("rank")
    assert (code, "no model yet" in said) == (1, True)
    batch = open_batch(world.pool, project, [3, 1])
    assert listed(world.client, 7) == [3, 1]
    assert shell(world.command, 7) == [3, 1]
    page = world.client.get("/images", headers={"Accept": "text/html"}).text
    assert page.index("Task 3") < page.index("Task 1")
    assert "Task 2" not in page
    out = world.command("rank")[1]
    assert "under no model" in " ".join(out.split())
    code, out, _ = world.command("status")
    assert "no masks, tasks in the order of batch 1" in out
    assert "tasks come in the order of batch 1, without masks" in out
    assert json.loads(world.command("status", "--json")[1])[0]["batch"] == 1
    with world.pool.write() as session:
        end_batch(session, session.get_one(Batch, batch.id), "undone", by="somebody")
    assert "no masks, tasks in random order" in world.command("status")[1]
    assert world.command("rank")[0] == 1


def test_a_task_of_several_images_stands_in_the_batch_by_its_most_uncertain(world: World) -> None:
    """Once, also where a page ends in the batch; a filter keeps the order."""
    project = add_project(world.pool)
    two = {"controls": [{"data_key": name} for name in ("image", "other")]}
    add_version(world.pool, project, add_model(world.pool, project), "v")
    for ls_id in (1, 2, 3):
        for part, data in (("image", ls_id), ("other", 50 + ls_id)):
            add_task(world.pool, project, ls_id, part=part, data=png_bytes(data))
    with world.pool.write() as session:
        for task in session.scalars(select(Task)):
            task.group_key = "A" if task.ls_id != 2 else "B"
        session.execute(update(Project).values(control=two))
    with world.pool.read() as session:
        tasks = session.scalars(select(Task).order_by(Task.id)).all()
    for task, uncertainty in zip(tasks, (0.1, 0.2, 0.9, 0.3, 0.5, 0.4), strict=True):
        add_prediction(world.pool, "v", str(task.image_digest), uncertainty=uncertainty)
    open_batch(world.pool, project, [1, 3])
    with world.pool.read() as session:
        found = serving_order(session, project, "v")
    assert [(row.ls_id, row.uncertainty, row.place) for row in found] == [(1, 0.2, 1), (3, 0.5, 2), (2, 0.9, None)]
    items = world.client.get("/api/images", params={"limit": 2}).json()
    assert [(item["task"], item["value"], item["rank"]) for item in items["items"]] == [(1, 0.2, 1), (3, 0.5, 2)]
    assert listed(world.client, 7, limit=1) == [1, 3, 2]
    assert listed(world.client, 7, limit=1, group="A") == [1, 3]
    assert listed(world.client, 7, limit=1, group="B") == [2]
    assert listed(world.client, 7, limit=1, by="predictive_entropy/mean") == [2, 3, 1]
