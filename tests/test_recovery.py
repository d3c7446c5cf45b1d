"""A real installation is hurt in every way at hand, while people annotate and trainings run: it comes to rest again,
and nothing is lost or doubled. `make soak` is the same with fifty kills.

MASKLOOP_TEST_KILLS (default 8) and MASKLOOP_TEST_SEED (default 1) choose how many and which.
"""

import os
import random
import statistics
import time

import pytest
from recovery_checks import broken, one_training_at_most, wait_for_sweep
from recovery_faults import FAULTS, VICTIMS, Fault, kill
from recovery_fixture import FAKETIME, SETTINGS, Loop, annotating, table

KILLS = int(os.environ.get("MASKLOOP_TEST_KILLS", "8"))
SEED = int(os.environ.get("MASKLOOP_TEST_SEED", "1"))
SETTLE = 300.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
figures: list[dict[str, object]] = []


def plan_kills(count: int, seed: int) -> list[str]:
    """Whom to kill, one after the other: everyone as often as another, in a seeded order."""
    chance = random.Random(seed)
    plan: list[str] = []
    while len(plan) < count:
        plan += chance.sample(VICTIMS, len(VICTIMS))
    return plan[:count]


def hurt(loop: Loop, name: str, fault: Fault, *, seed: int) -> None:
    """Bring it about, wait for rest, and check all that must hold."""
    chance = random.Random(seed)
    with one_training_at_most(loop) as trainings, annotating(loop, seed=seed) as annotator:
        loop.train()
        done = fault(loop, chance)
        lifted = time.monotonic()
        time.sleep(chance.uniform(0.0, 3.0))
    loop.settle(SETTLE)
    seconds = time.monotonic() - lifted
    figures.append({"fault": name, "what": done, "acts": annotator.acts, "at rest after s": f"{seconds:.1f}"})
    print(f"\n{name}: {done}; {annotator.acts} acts of the annotator; at rest {seconds:.1f} s after it was lifted")
    assert not broken(loop, annotator)
    assert trainings[0] <= 1
    assert not wait_for_sweep(loop)


@pytest.mark.parametrize(("number", "victim"), list(enumerate(plan_kills(KILLS, SEED))))
def test_a_kill(loop: Loop, number: int, victim: str) -> None:
    """SIGKILL at a random moment."""
    hurt(loop, f"SIGKILL {victim}", kill(victim), seed=1000 * SEED + number)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault(loop: Loop, name: str) -> None:
    """Everything else that goes wrong in the months of an installation's life."""
    if "disk" in name and not os.path.ismount(loop.home):
        pytest.skip("a small disk cannot be mounted here: that needs root")
    if "clock" in name and not FAKETIME.exists():
        pytest.skip("libfaketime is not installed")
    hurt(loop, name, FAULTS[name], seed=SEED)


def test_figures(loop: Loop) -> None:
    """The table of all that was tried, for the record."""
    seconds = [float(str(row["at rest after s"])) for row in figures]
    assert seconds, "no fault was tried"
    print(f"\nsettings: {SETTINGS}\n{table(list(figures))}")
    middle, worst = statistics.median(seconds), max(seconds)
    print(f"{len(seconds)} faults survived; at rest after {middle:.1f} s (median), {worst:.1f} s (worst)")
    assert loop.process is not None
    assert loop.process.poll() is None
