"""Entropies: closed forms, streaming against direct computation, bounds and memory."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskloop_learner.predict.scores import Scores, StreamingScores, binary_entropy


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


@pytest.mark.parametrize(
    ("samples", "pe", "ee", "variance"),
    [
        # H(1/4) = 2 - 3/4 log2 3, H(1/3) = log2 3 - 2/3, H(1/2) = 1
        ([0.25, 0.75], 1.0, 2 - 0.75 * math.log2(3), 1 / 16),
        ([0.0, 0.5], 2 - 0.75 * math.log2(3), 0.5, 1 / 16),
        ([0.0, 0.0, 1.0], math.log2(3) - 2 / 3, 0.0, 2 / 9),
        ([0.5], 1.0, 1.0, 0.0),
        ([0.0, 0.0], 0.0, 0.0, 0.0),
        ([1.0], 0.0, 0.0, 0.0),
    ],
)
def test_all_four_measures_have_their_closed_forms(samples: list[float], pe: float, ee: float, variance: float) -> None:
    got = stream(torch.tensor(samples).view(-1, 1, 1), 2).result()
    assert got.probability.item() == pytest.approx(sum(samples) / len(samples), abs=1e-7)
    assert got.predictive_entropy.item() == pytest.approx(pe, abs=1e-6)
    assert got.expected_entropy.item() == pytest.approx(ee, abs=1e-6)
    assert got.mutual_information.item() == pytest.approx(pe - ee, abs=1e-6)
    assert got.variance.item() == pytest.approx(variance, abs=1e-7)


MAPS = ("probability", "predictive_entropy", "expected_entropy", "mutual_information", "variance")


def assert_close(found: Scores, wanted: Scores) -> None:
    for name in MAPS:
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), rtol=1e-4, atol=2e-6, msg=name)


@st.composite
def draws(draw: st.DrawFn) -> torch.Tensor:
    """[n, 4, 5] of probabilities: agreeing, disagreeing, and at 0 or 1."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    count, spread, centre = draw(st.integers(1, 40)), draw(st.floats(0, 40)), draw(st.floats(-20, 20))
    return (torch.randn((count, 4, 5), generator=generator) * spread + centre).sigmoid()


@settings(deadline=None)
@given(draws())
def test_measures_keep_their_bounds(p: torch.Tensor) -> None:
    """MI >= 0, PE >= EE, PE = EE + MI, and p(1-p) bounds the variance."""
    got = stream(p, 7).result()
    assert bool((got.mutual_information >= 0).all())
    assert bool((got.predictive_entropy >= got.expected_entropy).all())
    assert bool((got.predictive_entropy <= 1).all())
    torch.testing.assert_close(got.expected_entropy + got.mutual_information, got.predictive_entropy)
    assert bool((got.variance <= got.probability * (1 - got.probability) + 1e-6).all())


@settings(deadline=None)
@given(p=draws(), seed=st.integers(0, 10**6))
def test_order_of_samples_and_of_pixels_does_not_matter(p: torch.Tensor, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    wanted = stream(p, 10).result()
    assert_close(stream(p[torch.randperm(len(p), generator=generator)], 10).result(), wanted)
    pixels = torch.randperm(20, generator=generator)
    moved = stream(p.flatten(1)[:, pixels].view(-1, 4, 5), 10).result()
    for name in MAPS:  # a pixel knows nothing of its neighbours: equal to the bit
        assert torch.equal(getattr(moved, name), getattr(wanted, name).flatten()[pixels].view(4, 5))


@settings(deadline=None)
@given(draws())
def test_foreground_and_background_are_alike(p: torch.Tensor) -> None:
    """p -> 1 - p changes the mask and no uncertainty: p = 0.1 is as unsure as 0.9."""
    one, other = stream(p, 10).result(), stream(1 - p, 10).result()
    torch.testing.assert_close(other.probability, 1 - one.probability, rtol=1e-5, atol=1e-6)
    for name in MAPS[1:]:
        torch.testing.assert_close(getattr(other, name), getattr(one, name), rtol=1e-4, atol=1e-5)


@settings(deadline=None)
@given(p=draws(), cuts=st.lists(st.integers(1, 15), min_size=1, max_size=40))
def test_chunks_do_not_matter(p: torch.Tensor, cuts: list[int]) -> None:
    """However unequal they are."""
    uneven, start = StreamingScores(), 0
    for size in [*cuts, len(p)]:
        if start < len(p):
            uneven.add(p[start : start + size])
        start += size
    assert_close(uneven.result(), stream(p, 1).result())


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
