"""Hints from web to sync that a project is worth a look now. A lost hint costs one sync period, never a label."""

import time

import redis

from maskloop_queue import KEY_PREFIX

KEY = f"{KEY_PREFIX}:wake"
BOUND = 1000
"""Hints kept at most; more say nothing new."""
_SLICE = 2.0


def wake(conn: redis.Redis, project_ls_id: int) -> None:
    """Hint that the project of this Label Studio id has news. RedisError when Redis is down."""
    with conn.pipeline() as pipeline:
        pipeline.rpush(KEY, project_ls_id)
        pipeline.ltrim(KEY, -BOUND, -1)
        pipeline.execute()


def wait_for_wake(conn: redis.Redis, timeout: float) -> set[int]:
    """Wait up to `timeout` seconds for hints; return all that are there, or an empty set. RedisError when down."""
    end = time.monotonic() + timeout
    while True:
        left = end - time.monotonic()
        # Short waits: a blocking command must end before the socket's own timeout does.
        first = conn.blpop([KEY], timeout=min(left, _SLICE)) if left > 0.01 else None
        rest = conn.lpop(KEY, BOUND) if first or left <= 0.01 else None
        if first or rest or left <= 0.01:
            return {int(item) for item in ([first[1]] if first else []) + list(rest or [])}
