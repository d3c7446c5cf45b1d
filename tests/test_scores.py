"""Entropies: closed forms, streaming against direct computation, bounds and memory."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskloop_learner.predict.scores import StreamingScores, binary_entropy


def stream(samples: torch.Tensor, chunk: int) -> StreamingScores:
    scores = StreamingScores()
    for start in range(0, len(samples), chunk):
        scores.add(samples[start : start + chunk])
    return scores


def test_entropy_has_its_closed_form() -> None:
    p = torch.tensor([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])
    expected = torch.tensor([0.0, 0.46899559, 0.81127812, 1.0, 0.46899559, 0.0])
    torch.testing.assert_close(binary_entropy(p), expected, rtol=1e-6, atol=1e-7)
    assert binary_entropy(p)[0] == 0
    assert binary_entropy(p)[-1] == 0


def test_agreeing_samples_have_no_mutual_information_and_certain_opposites_have_all() -> None:
    same = stream(torch.full((8, 1, 1), 0.3), 3).result()
    assert same.mutual_information.item() == 0
    assert same.variance.item() == 0
    assert same.predictive_entropy.item() == pytest.approx(0.8812909, abs=1e-6)
    opposite = stream(torch.tensor([0.0, 1.0]).view(2, 1, 1), 1).result()
    assert opposite.probability.item() == 0.5
    assert opposite.predictive_entropy.item() == pytest.approx(1)
    assert opposite.expected_entropy.item() == 0
    assert opposite.mutual_information.item() == pytest.approx(1)
    assert opposite.variance.item() == pytest.approx(0.25)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 40),
    chunk=st.integers(1, 12),
    spread=st.floats(0, 8),
    centre=st.floats(-20, 20),
)
def test_streaming_is_direct_and_within_bounds(seed: int, count: int, chunk: int, spread: float, centre: float) -> None:
    g = torch.Generator().manual_seed(seed)
    p = (torch.randn((count, 4, 5), generator=g) * spread + centre).sigmoid()
    got, exact = stream(p, chunk).result(), p.double()
    total, expected = binary_entropy(exact.mean(0)), binary_entropy(exact).mean(0)
    pairs = [
        (got.probability, exact.mean(0)),
        (got.predictive_entropy, total),
        (got.expected_entropy, expected),
        (got.mutual_information, total - expected),
        (got.variance, exact.var(0, correction=0)),
    ]
    for found, wanted in pairs:
        torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=2e-6)
        assert bool(((found >= 0) & (found <= 1)).all())


def test_variance_of_close_samples_is_not_lost_to_rounding() -> None:
    p = 0.7 + 1e-4 * torch.randn((30, 50, 50), generator=torch.Generator().manual_seed(0))
    exact = p.double().var(0, correction=0)
    torch.testing.assert_close(stream(p, 10).result().variance.double(), exact, rtol=1e-3, atol=1e-14)


def test_memory_does_not_grow_with_the_samples() -> None:
    def floats(scores: StreamingScores) -> int:
        return sum(x.numel() for x in vars(scores).values() if isinstance(x, torch.Tensor))

    few, many = stream(torch.rand(2, 8, 8), 2), stream(torch.rand(200, 8, 8), 2)
    assert floats(few) == floats(many) == 4 * 64


@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.1])
def test_what_is_no_probability_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        StreamingScores().add(torch.full((1, 2, 2), bad))


def test_shape_and_emptiness_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        StreamingScores().add(torch.rand(2, 2))
    with pytest.raises(ValueError, match="no scores"):
        StreamingScores().result()
