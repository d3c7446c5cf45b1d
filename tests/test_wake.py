"""Hints from web to sync."""

import threading
import time

import pytest
import redis
from valkey_fixture import Valkey

from maskloop_queue.wake import BOUND, KEY, wait_for_wake, wake


def test_hints_arrive_once_and_together(shared_valkey: Valkey) -> None:
    conn = shared_valkey.connect()
    for project in (3, 4, 3):
        wake(conn, project)
    assert wait_for_wake(conn, 5) == {3, 4}
    start = time.monotonic()
    assert wait_for_wake(conn, 0.3) == set()
    assert 0.2 < time.monotonic() - start < 1


def test_a_hint_ends_the_wait_at_once(shared_valkey: Valkey) -> None:
    conn = shared_valkey.connect()
    threading.Timer(0.5, lambda: wake(shared_valkey.connect(), 9)).start()
    start = time.monotonic()
    assert wait_for_wake(conn, 10) == {9}
    assert time.monotonic() - start < 1.5


def test_no_wait_takes_what_is_there(shared_valkey: Valkey) -> None:
    conn = shared_valkey.connect()
    wake(conn, 5)
    assert wait_for_wake(conn, 0) == {5}
    assert wait_for_wake(conn, 0) == set()


def test_hints_are_bounded(shared_valkey: Valkey) -> None:
    conn = shared_valkey.connect()
    for project in range(BOUND + 50):
        wake(conn, project)
    assert conn.llen(KEY) == BOUND


def test_redis_down_is_a_redis_error_soon(shared_valkey: Valkey) -> None:
    conn = shared_valkey.connect(patience=0.3)
    shared_valkey.stop()
    start = time.monotonic()
    with pytest.raises(redis.RedisError):
        wake(conn, 1)
    assert time.monotonic() - start < 2
