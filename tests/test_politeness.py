"""A training gives way to a person and always gets its share; what is announced holds for a while and no longer."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pool_fixture import add_label, add_project, add_task
from rq import Queue, Retry
from valkey_fixture import Valkey, wait_until
from worker_fixture import Workers

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Round
from maskloop_learner.settings import Settings
from maskloop_queue import politeness, rounds
from maskloop_queue.politeness import CREDIT, LOOK_EVERY, GivingWay, announce, announced, somebody_waits
from maskloop_queue.queues import score_job_id
from maskloop_queue.running import Place
from maskloop_queue.triggers import request_training, start_due_round
from maskloop_queue.valkey import redis_url


class Time:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = self.slept = 0.0

    def work(self, seconds: float) -> None:
        self.now += seconds

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds

    def giving_way(self, waits: Any, share: float) -> GivingWay:
        return GivingWay(waits=waits, share=share, clock=lambda: self.now, sleep=self.sleep)


@given(st.floats(0.05, 1.0), st.lists(st.floats(0.001, 3.0), min_size=1, max_size=60))
def test_a_training_always_gets_its_share(share: float, steps: list[float]) -> None:
    """A person waits all the time: work takes 1 / share of its time, besides the credit that was there."""
    told = Time()
    way = told.giving_way(lambda: True, share)
    worked = 0.0
    for step in steps:
        told.work(step)
        worked += step
        way.pause()
        assert told.slept <= worked * (1 - share) / share + CREDIT + LOOK_EVERY
    if share == 1:
        assert told.slept == 0


def test_a_person_has_the_machine_while_waiting() -> None:
    """The training stands still until the prediction is there, and works at once when it is."""
    told = Time()
    way = told.giving_way(lambda: 1.0 <= told.now < 1.8, share=0.3)
    told.work(0.5)
    way.pause()
    assert told.slept == 0
    told.work(0.6)
    way.pause()
    assert told.now == pytest.approx(1.8, abs=LOOK_EVERY)
    told.work(0.5)
    way.pause()
    assert told.slept == pytest.approx(0.7, abs=LOOK_EVERY)


def test_it_never_stands_still_for_longer_than_its_credit() -> None:
    """Not even after hours in which nobody asked."""
    told = Time()
    way = told.giving_way(lambda: told.now >= 10_000, share=0.3)
    for _ in range(20):
        told.work(500)
        before = told.now
        way.pause()
    assert told.now - before == pytest.approx(CREDIT, abs=2 * LOOK_EVERY)


def test_quick_steps_ask_redis_fifty_times_a_second_at_most() -> None:
    looks = 0

    def look() -> bool:
        nonlocal looks
        looks += 1
        return False

    told = Time()
    way = told.giving_way(look, share=0.3)
    for _ in range(1000):
        told.work(0.001)
        way.pause()
    assert 40 <= looks <= 51


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(ValueError, match="share must be above 0 and at most 1"):
        GivingWay(waits=lambda: True, share=share)


def test_an_announcement_is_taken_back_by_who_made_it(shared_valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    conn, shown = shared_valkey.connect(), list[int]()
    waits = somebody_waits(conn, lambda: shown.append(1))
    assert not waits()
    with announced(conn, "one"):
        assert waits()
        announce(conn, "two")
    assert waits(), "the other worker's person waits still"
    assert 0 < conn.pttl(politeness.key()) <= politeness.TTL * 1000
    assert len(shown) == 3, "each look is a sign of life"
    monkeypatch.setattr(politeness, "TTL", 0.05)
    announce(conn, "a worker that dies")
    wait_until("forgotten", lambda: not waits(), 2)


def test_without_redis_nobody_gives_way_and_predictions_go_on(settings: Settings) -> None:
    """One failed look, then none for a while."""
    settings.redis_url = "redis://127.0.0.1:1/0"
    place = Place(settings)
    started = time.monotonic()
    for _ in range(3):
        place.give_way()
    assert time.monotonic() - started < 1.5
    from maskloop_queue.connection import connect

    with announced(connect(settings, patience=0.1), "one"):
        pass


def test_a_worker_that_is_to_end_does_not_wait(settings: Settings, shared_valkey: Valkey) -> None:
    settings.redis_url = redis_url(shared_valkey.settings)
    announce(shared_valkey.connect(), "one")
    place = Place(settings, should_stop=lambda: True)
    started = time.monotonic()
    place.give_way()
    assert time.monotonic() - started < 1.0


def test_a_worker_announces_only_what_a_person_waits_for(workers: Workers, gpu: Queue) -> None:
    """While it is made, and not a moment longer."""
    seen: dict[str, bool] = {}
    workers.start("gpu")
    for name, front in (("asked", True), ("other", False)):
        gpu.enqueue_call(
            "extra.busy",
            args=(workers.notes_path, 1.0),
            job_id=name,
            result_ttl=0,
            retry=Retry(max=1, enqueue_at_front=front),
        )
        count = len(seen) + 1
        workers.wait("start", count)
        seen[name] = bool(workers.conn.exists(politeness.key()))
        workers.wait("end", count)
        wait_until("taken back", lambda: not workers.conn.exists(politeness.key()), 1)
    assert seen == {"asked": True, "other": False}


def test_what_the_web_process_asks_for_is_what_is_announced(shared_valkey: Valkey) -> None:
    """Newly asked for, or queued already and moved to the front."""
    from maskloop_queue.jobs import fetch
    from maskloop_queue.queues import enqueue_score

    conn = shared_valkey.connect()
    for image, first in (("ab" * 32, True), ("cd" * 32, False)):
        enqueue_score(conn, "v1", image, front=first)
        enqueue_score(conn, "v1", image, front=True)
        job = fetch(conn, score_job_id("v1", image))
        assert job is not None
        assert job.enqueue_at_front_on_retry


def test_a_training_ends_though_somebody_waits_all_the_time(
    pool: Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps, comparison and examination all give way, and get their half of the time."""
    monkeypatch.setattr(politeness, "CREDIT", 0.2)
    settings.train_steps, settings.train_batch, settings.samples, settings.device = 4, 1, 2, "cpu"
    settings.calibration_images = 0
    project = add_project(pool)
    for number in range(1, 5):
        add_label(pool, add_task(pool, project, number))
    request_training(pool, project, cause="cli")
    round_id = start_due_round(pool, project, settings)
    assert round_id is not None
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        started = time.monotonic()
        time.sleep(seconds)
        slept.append(time.monotonic() - started)

    started = time.monotonic()
    way = GivingWay(waits=lambda: True, share=0.5, sleep=sleep)
    rounds.run(pool, round_id, settings, lambda progress: None, lambda: False, way.pause)
    took = time.monotonic() - started
    with pool.read() as session:
        assert session.get_one(Round, round_id).state == "promoted"
    print(f"{took:.1f} s, of which it stood still for {sum(slept):.1f} s")
    assert sum(slept) > 0
    assert sum(slept) <= took / 2 + 0.2 + 2 * max(slept)
