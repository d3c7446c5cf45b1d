"""Threads for work that blocks, apart by kind: what hangs in the network holds up only its like."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """A few threads of one kind."""

    def __init__(self, count: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread. Cancelled, it goes on unseen if it has begun, and is dropped if not."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def close(self) -> None:
        """Take no more work and drop what has not begun; does not wait."""
        self._executor.shutdown(wait=False, cancel_futures=True)
