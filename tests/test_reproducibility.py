"""To the bit: a prediction is the same alone, among others, in any order, on one thread or two, in any process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from digest_script import SIZES, ask, ask_all, make_predictor
from valkey_fixture import FLOORS

from maskloop_learner.model.threads import one_thread
from maskloop_learner.predict.predictor import Predictor
from maskloop_learner.predict.sampling import Sampling

SCRIPT = Path(__file__).with_name("digest_script.py")
ALL = range(len(SIZES))
METHODS = (Sampling("monte-carlo", 13), Sampling("antithetic", 12), Sampling("mean-value", 1))
"""More samples than a chunk holds, and not a multiple of it."""
FEW = (Sampling("monte-carlo", 4),)
SOME = range(1, 5)
"""Small and large images: reductions of few numbers are never shared among threads."""
TWO = range(2, 4)


@pytest.fixture(scope="module")
def nano() -> Predictor:
    return make_predictor("nano")


def run(backbone: str, samplings: tuple[Sampling, ...], *, threads: int, some: range = SOME) -> dict[str, str]:
    """The digests that another process, with so many threads, finds."""
    said = subprocess.run(
        [
            sys.executable,
            SCRIPT,
            backbone,
            str(some.start),
            str(some.stop),
            *(f"{s.method}/{s.samples}" for s in samplings),
        ],
        env={**os.environ, "PYTHONPATH": FLOORS, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    found: dict[str, str] = json.loads(said.stdout)
    return found


@pytest.mark.parametrize("sampling", METHODS, ids=lambda s: s.method)
def test_eight_images_in_any_order_are_as_each_alone(nano: Predictor, sampling: Sampling) -> None:
    """Also after the generators of the process were used by others."""
    together = ask_all(nano, [sampling], ALL)
    torch.manual_seed(99)
    assert ask_all(nano, [sampling], reversed(ALL)) == together
    alone = make_predictor("nano")
    assert ask(alone, 5, sampling) == together[f"{sampling.method}/{sampling.samples}/5"]
    assert len(set(together.values())) == len(ALL)


@pytest.mark.slow
def test_threads_and_processes_change_no_bit(nano: Predictor) -> None:
    here = ask_all(nano, METHODS, SOME)
    assert run("nano", METHODS, threads=1) == here
    assert run("nano", METHODS, threads=2) == here


def test_one_thread_ends_with_its_block_even_on_an_error() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(RuntimeError, match="inside"), one_thread():
            assert torch.get_num_threads() == 1
            raise RuntimeError("inside")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_a_published_backbone_gives_the_same_bits() -> None:
    here = ask_all(make_predictor("pubmedclip"), FEW, reversed(TWO))
    assert run("pubmedclip", FEW, threads=1, some=TWO) == here
    assert run("pubmedclip", FEW, threads=2, some=TWO) == here
