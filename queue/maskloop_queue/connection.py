"""The connection to Redis or Valkey: every call ends after a bounded time, also when the server is down."""

import time
from collections.abc import Callable
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from maskloop_learner.settings import Settings
from maskloop_queue.valkey import HOST, endpoint

SOCKET_TIMEOUT = 15.0
"""Seconds; longer than any blocking command that is sent."""


HURRY = 1.0
"""Seconds of patience that are left to a process that is to end."""


class Patience(Retry):
    """Tries a call again, at growing intervals, until so many seconds have passed."""

    def __init__(self, seconds: float, hurry: Callable[[], bool]) -> None:
        super().__init__(ExponentialBackoff(cap=1.0, base=0.05), retries=-1)
        self.seconds = seconds
        self.hurry = hurry

    def __deepcopy__(self, memo: object) -> "Patience":
        # Each connection asks for a copy; there is no state to part, and `hurry` cannot be copied.
        return self

    def call_with_retry(
        self,
        do: Callable[[], Any],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> Any:
        """As the base class does; a bound in time also holds where the library nests one retry in another."""
        start = time.monotonic()

        def in_time(error: Exception) -> bool:
            limit = min(self.seconds, HURRY) if self.hurry() else self.seconds
            return time.monotonic() - start < limit and (is_retryable is None or is_retryable(error))

        return super().call_with_retry(do, fail, in_time, with_failure_count)


class EmbeddedCredentials(redis.CredentialProvider):
    """The password of a home folder's Valkey, read when a connection is made."""

    def __init__(self, settings: Settings) -> None:
        self.home = settings.home

    def get_credentials(self) -> tuple[str]:
        """The password. ValkeyError when the Valkey never ran."""
        return (endpoint(self.home).password,)


class EmbeddedConnection(redis.Connection):
    """A connection to a home folder's Valkey, which may come back on another port."""

    def __init__(self, *, settings: Settings, **kwargs: Any) -> None:
        super().__init__(host=HOST, credential_provider=EmbeddedCredentials(settings), **kwargs)  # type: ignore[no-untyped-call]
        self.home = settings.home

    def _connect(self) -> Any:
        self.port = endpoint(self.home).port
        return super()._connect()  # type: ignore[no-untyped-call]


def connect(settings: Settings, *, patience: float = 2.0, hurry: Callable[[], bool] = lambda: False) -> redis.Redis:
    """A client; it connects when first used. A call raises RedisError after about `patience` seconds without server,
    sooner when `hurry` says that this process is to end.

    Answers are bytes: RQ needs them so.
    """
    limits: dict[str, Any] = {
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": 2.0,
        "socket_keepalive": True,
        "health_check_interval": 30,
        "retry": Patience(patience, hurry),
    }
    if settings.redis_url:
        return redis.Redis.from_url(settings.redis_url, **limits)
    pool = redis.ConnectionPool(connection_class=EmbeddedConnection, settings=settings, **limits)
    return redis.Redis(connection_pool=pool)
