"""The floor that moves work: Redis connection, jobs, workers, triggers, janitor."""

import os

KEY_PREFIX = "maskloop"
"""Of every key in Redis, to keep away from others (Label Studio has RQ queues of its own)."""

# RQ reads its prefix once, when it is first imported; the variable is put back so that no child inherits it.
_before = os.environ.get("RQ_KEY_PREFIX")
os.environ["RQ_KEY_PREFIX"] = KEY_PREFIX
from rq.defaults import RQ_KEY_PREFIX as _prefix  # noqa: E402

if _before is None:
    del os.environ["RQ_KEY_PREFIX"]
else:
    os.environ["RQ_KEY_PREFIX"] = _before
if _prefix != KEY_PREFIX:
    raise ImportError(
        f"rq was imported before maskloop_queue, with the key prefix {_prefix!r}: import maskloop_queue first"
    )
