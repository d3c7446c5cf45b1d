"""Work that waits together."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from maskloop_backend.sync.together import do_together


def test_everything_is_done_once_and_waits_side_by_side() -> None:
    """Four that wait for each other all come to their end."""
    meeting, done = threading.Barrier(4, timeout=10), list[int]()

    def do(item: int) -> None:
        meeting.wait()
        done.append(item)

    do_together(do, range(8), threads=4, seconds=60)
    assert sorted(done) == list(range(8))


def test_no_more_is_begun_after_a_while() -> None:
    """What has begun by then is done."""
    done = list[int]()

    def do(item: int) -> None:
        time.sleep(0.05)
        done.append(item)

    do_together(do, range(1000), threads=2, seconds=0.2)
    assert 2 <= len(done) < 100
    assert sorted(done) == list(range(len(done)))


def test_an_error_is_raised_when_the_others_have_ended() -> None:
    """In the caller's thread; nothing new is begun."""
    done = list[int]()

    def do(item: int) -> None:
        if item == 1:
            raise OSError("the disk is full")
        time.sleep(0.1)
        done.append(item)

    with pytest.raises(OSError, match="the disk is full"):
        do_together(do, range(100), threads=2, seconds=60)
    assert len(done) <= 2


def test_a_process_that_is_told_to_end_does_not_wait_for_it() -> None:
    """A server that hangs holds up no stop of `sync`."""
    code = (
        "import signal, sys, time; from maskloop_backend.sync.together import do_together\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "print('ready', flush=True)\n"
        "do_together(lambda _: time.sleep(60), range(4), threads=4, seconds=60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 7
    process.stdout.close()
