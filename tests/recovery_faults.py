"""What can befall an installation. Each fault is brought about while people annotate and a training runs, and lifted
again; each returns what was done."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from chaos_proxy import CALM, ChaosProxy, Weather
from demo_fixture import wait_for
from recovery_fixture import FAKETIME, Loop

from maskloop_queue.connection import connect

Fault = Callable[[Loop, random.Random], str]

VICTIMS = ("web", "sync", "gpu", "training", "horse", "valkey")
OUTAGE = 12.0
"""Seconds that something is away: longer than any lease in these tests."""
BACK = 60.0


def kill(name: str) -> Fault:
    """SIGKILL to a service at some moment of its work."""

    def fault(loop: Loop, chance: random.Random) -> str:
        if name in ("horse", "training"):
            wait_for("a training process", lambda: loop.service("horse"), BACK, loop.check_alive)
        moment = chance.uniform(0.0, 6.0)
        time.sleep(moment)
        if name == "horse":
            wait_for("a training process", lambda: ensure_training(loop), BACK, loop.check_alive)
        victims = loop.service(name)
        hit = [end(victim) for victim in victims]
        wait_for(f"another {name}", lambda: is_replaced(loop, name, victims), BACK, loop.check_alive)
        return f"{sum(hit)} killed after {moment:.1f} s"

    return fault


def ensure_training(loop: Loop) -> bool:
    """Whether a training process lives; asks for a training when none is open."""
    if loop.service("horse"):
        return True
    if not loop.training():
        loop.train()
    return False


def is_replaced(loop: Loop, name: str, victims: list[psutil.Process]) -> bool:
    """Whether another process of that name runs. A training process comes back only when its round is still open."""
    old = {victim.pid for victim in victims}
    alive = {process.pid for process in loop.service(name)}
    return not alive & old and (bool(alive) or (name == "horse" and not loop.training()))


def end(victim: psutil.Process) -> bool:
    """SIGKILL; whether it was still alive."""
    try:
        victim.kill()
        victim.wait(10)
    except psutil.NoSuchProcess:
        return False
    return True


def forget_all(loop: Loop, chance: random.Random) -> str:
    """Redis loses everything: jobs, leases, workers."""
    time.sleep(chance.uniform(0.0, 4.0))
    conn = connect(loop.settings)
    try:
        conn.flushall()
    finally:
        conn.close()
    return "FLUSHALL"


def redis_is_away(loop: Loop, chance: random.Random) -> str:
    """Redis is killed again and again, for a while."""
    end_at, kills = time.monotonic() + OUTAGE, 0
    while time.monotonic() < end_at:
        kills += sum(end(process) for process in loop.service("valkey"))
        time.sleep(0.1)
    wait_for("Redis", lambda: loop.service("valkey"), BACK, loop.check_alive)
    return f"killed {kills} times in {OUTAGE:g} s"


def redis_hangs(loop: Loop, chance: random.Random) -> str:
    """Redis stops answering without closing a connection."""
    (process,) = loop.service("valkey")
    process.suspend()
    time.sleep(OUTAGE)
    process.resume()
    return f"stopped for {OUTAGE:g} s"


def label_studio_dies(loop: Loop, chance: random.Random) -> str:
    """Label Studio is killed and comes back after a while."""
    assert loop.studio is not None
    os.killpg(loop.studio.process.pid, signal.SIGKILL)
    loop.studio.process.wait(10)
    time.sleep(OUTAGE)
    loop.studio.start()
    return f"killed, away for {OUTAGE:g} s and its start"


def weather(proxy: Callable[[Loop], ChaosProxy], *, seconds: float, **what: float) -> Fault:
    """Something happens to requests for some seconds; at least one must have met it."""

    def fault(loop: Loop, chance: random.Random) -> str:
        chosen = proxy(loop)
        with changed(chosen, Weather(**what)):  # type: ignore[arg-type]
            time.sleep(seconds)
            wait_for("a request that meets it", lambda: chosen.met > 0, BACK, loop.check_alive)
            met = chosen.met
        return f"{met} requests in {seconds:g} s"

    return fault


@contextmanager
def changed(proxy: ChaosProxy, what: Weather) -> Iterator[None]:
    """Have that weather while the block runs."""
    proxy.change(what)
    try:
        yield
    finally:
        proxy.change(CALM)


def webhooks_out_of_order(loop: Loop, chance: random.Random) -> str:
    """Webhooks are kept and arrive late, the newest first."""
    with changed(loop.to_web, Weather(held=True)):
        time.sleep(OUTAGE)
    return f"{loop.to_web.release()} webhooks after up to {OUTAGE:g} s, the newest first"


def disk_is_full(*, at: str) -> Fault:
    """No byte can be written, from a moment of a training on: its first checkpoint, or its last steps."""

    def fault(loop: Loop, chance: random.Random) -> str:
        def reached() -> bool:
            ensure_training(loop)
            progress = next((r.progress for r in loop.rounds() if r.ended_at is None), {})
            step, steps = int(progress.get("step", 0)), int(progress.get("steps", 1))
            return step >= 3 if at == "checkpoint" else step >= steps

        wait_for(f"the moment of {at}", reached, 4 * BACK, loop.check_alive)
        ballast = loop.home / "ballast"
        written = fill(ballast)
        time.sleep(OUTAGE)
        ballast.unlink()
        return f"full for {OUTAGE:g} s ({written >> 20} MB of ballast)"

    return fault


def fill(path: Path) -> int:
    """Write until there is no more room; returns the bytes."""
    written, piece = 0, b"\0" * (1 << 20)
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    written += file.write(piece[:size])
            except OSError:
                continue  # full for pieces of this size
    return written


def clock_steps_back(loop: Loop, chance: random.Random) -> str:
    """The wall clock of all processes goes back by an hour, and later forth again."""
    times = loop.home.parent / "faketime"
    times.write_text("+0")
    loop.stop()
    loop.start(
        LD_PRELOAD=str(FAKETIME),
        FAKETIME_TIMESTAMP_FILE=str(times),
        FAKETIME_DONT_FAKE_MONOTONIC="1",
        FAKETIME_CACHE_DURATION="1",
    )
    wait_for("a training process", lambda: ensure_training(loop), BACK, loop.check_alive)
    time.sleep(chance.uniform(1.0, 4.0))
    times.write_text("-3600")
    time.sleep(OUTAGE)
    return "one hour"


def clock_is_right_again(loop: Loop, chance: random.Random) -> str:
    """The clock goes forth by that hour."""
    (loop.home.parent / "faketime").write_text("+0")
    time.sleep(3.0)
    return "one hour forth"


def studio(loop: Loop) -> ChaosProxy:
    """Before Label Studio."""
    return loop.to_studio


def webhooks(loop: Loop) -> ChaosProxy:
    """Between Label Studio's webhooks and the web process."""
    return loop.to_web


FAULTS: dict[str, Fault] = {
    "FLUSHALL": forget_all,
    "Redis is away": redis_is_away,
    "Redis hangs": redis_hangs,
    "Label Studio is killed": label_studio_dies,
    "Label Studio answers 500": weather(studio, seconds=15.0, error=0.4),
    "Label Studio answers 429": weather(studio, seconds=15.0, error=0.4, status=429),
    "Label Studio's answers are lost": weather(studio, seconds=15.0, cut=0.3),
    "Label Studio is slow": weather(studio, seconds=20.0, delay=3.0),
    "webhooks are lost": weather(webhooks, seconds=10.0, lost=1.0),
    "webhooks come twice": weather(webhooks, seconds=10.0, doubled=1.0),
    "webhooks come late, newest first": webhooks_out_of_order,
    "the disk is full at a checkpoint": disk_is_full(at="checkpoint"),
    "the disk is full at the publication": disk_is_full(at="publication"),
    "the clock steps back": clock_steps_back,
    "the clock steps forth": clock_is_right_again,
}
