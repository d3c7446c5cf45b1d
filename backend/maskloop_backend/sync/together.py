"""Work that waits for the network waits together: a few threads, for a while."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def do_together(do: Callable[[T], None], items: Iterable[T], *, threads: int, seconds: float) -> None:
    """Do it with each item in their order, `threads` at a time.

    After `seconds`, and after an error, no more is begun; what has begun is waited for. Raises the first error then.
    The threads hold up no process that ends.
    """
    rest, lock, latest = iter(items), threading.Lock(), time.monotonic() + seconds
    errors: list[Exception] = []

    def work() -> None:
        while True:
            with lock:
                if errors or time.monotonic() >= latest:
                    return
                try:
                    item = next(rest)
                except StopIteration:
                    return
            try:
                do(item)
            except Exception as error:  # noqa: BLE001 - raised by the caller's own thread
                errors.append(error)

    workers = [threading.Thread(target=work, name=f"together-{number}", daemon=True) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]
