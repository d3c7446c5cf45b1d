"""Strategies against brute force, closed forms and their limits."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from choosing_fixture import make_candidates, make_many, unit
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from maskloop_learner.select.candidates import Candidates, Pick
from maskloop_learner.select.choosing import ChoosingError, Options, choose
from maskloop_learner.select.clusters import find_clusters
from maskloop_learner.select.power import power_order
from maskloop_learner.select.strategies import STRATEGIES
from maskloop_learner.select.typiclust import mean_distances


def pick(candidates: Candidates, name: str, size: int, *, seed: int = 0, **options: object) -> list[Pick]:
    """A batch by one strategy alone."""
    plain = Options(random_share=0, **options)  # type: ignore[arg-type]
    return choose(candidates, strategy=name, size=size, seed=seed, options=plain)


def ids(picks: list[Pick]) -> list[int]:
    return [each.id for each in picks]


def test_every_strategy_says_what_it_prefers() -> None:
    for name, strategy in STRATEGIES.items():
        assert strategy.name == name
        assert 20 < len(strategy.help) < 110
        assert "\n" not in strategy.help


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000))
def test_all_strategies_end_up_with_every_image(seed: int) -> None:
    """Each once, whatever they prefer."""
    candidates = make_many(25, seed=seed)
    for name in STRATEGIES:
        assert sorted(ids(pick(candidates, name, 25, seed=seed))) == candidates.ids.tolist()


# power


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.1, 0.1000001, 0.7, math.nan]), min_size=1, max_size=20), st.integers(0, 9))
def test_power_with_infinite_beta_is_the_ranking(scores: list[float], seed: int) -> None:
    """Also with a very large one, where the logarithm rounds scores to one."""
    values, ties = np.array(scores), np.arange(len(scores))
    rng = np.random.default_rng(seed)
    exact = power_order(values, ties, beta=math.inf, rng=rng).tolist()
    known = sorted((row for row in ties if not math.isnan(scores[row])), key=lambda row: (-scores[row], row))
    assert exact == known + [row for row in ties if math.isnan(scores[row])]
    assert power_order(values, ties, beta=1e300, rng=rng).tolist() == exact


def test_power_with_beta_0_draws_by_lot() -> None:
    """Every known image is as likely to be first, those of score 0 too; the unknown one never is."""
    values = np.array([0.0, 0.001, 0.5, 1.0, math.nan])
    rng = np.random.default_rng(0)
    firsts = Counter(int(power_order(values, np.arange(5), beta=0, rng=rng)[0]) for _ in range(2000))
    assert set(firsts) == {0, 1, 2, 3}
    assert all(abs(count - 500) < 4 * 19.4 for count in firsts.values())


@pytest.mark.parametrize("beta", [0.5, 1, 3])
def test_power_draws_in_proportion_to_the_scores_power(beta: float) -> None:
    """Kirsch et al. 2021: Gumbel noise on the logarithm is drawing with p ~ s ** beta, without replacement."""
    values = np.array([0.1, 0.2, 0.4, 0.8])
    wanted = values**beta / (values**beta).sum()
    rng = np.random.default_rng(1)
    orders = [power_order(values, np.arange(4), beta=beta, rng=rng).tolist() for _ in range(4000)]
    for row in range(4):
        share = sum(order[0] == row for order in orders) / len(orders)
        assert abs(share - wanted[row]) < 4 * math.sqrt(wanted[row] * (1 - wanted[row]) / len(orders))
    after = [order[1] for order in orders if order[0] == 3]
    assert after.count(2) / len(after) == pytest.approx(wanted[2] / wanted[:3].sum(), abs=0.06)


def test_the_noise_dies_down_from_round_to_round() -> None:
    """Beta grows from 1 to 100 exponentially and stays there; a given beta holds in every round."""
    betas = [Options(round_number=number, rounds=5).beta_now for number in range(1, 8)]
    assert betas == pytest.approx([1, 100**0.25, 10, 100**0.75, 100, 100, 100])
    assert Options(round_number=4, beta=2.5).beta_now == 2.5
    assert Options(rounds=1).beta_now == 1
    candidates = make_candidates(np.linspace(0.01, 1, 200))
    overlap = []
    for number in (1, 3, 5):
        found = [ids(pick(candidates, "power", 20, seed=seed, round_number=number)) for seed in range(30)]
        overlap.append(np.mean([len(set(each) & set(range(190, 210))) for each in found]))
    assert overlap[0] < overlap[1] < overlap[2]


def test_power_refuses_scores_below_0() -> None:
    with pytest.raises(ChoosingError, match=r"scores of 0 or more, got -0\.5"):
        pick(make_candidates([0.1, -0.5]), "power", 1)


# diverse


def brute_force(vectors: NDArray[np.float32], labelled: NDArray[np.float32], size: int) -> list[int]:
    """Greedy k-center as in the paper: rows, the first of equals first."""
    centres, chosen = list(labelled), []
    for _ in range(size):
        best, far = -1, -1.0
        for row, vector in enumerate(vectors):
            if row in chosen:
                continue
            nearest = min((float(np.linalg.norm(vector - centre)) for centre in centres), default=math.inf)
            if nearest > far + 1e-5:
                best, far = row, nearest
        chosen.append(best)
        centres.append(vectors[best])
    return chosen


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(0, 3))
def test_diverse_is_greedy_k_center(seed: int, labelled: int) -> None:
    """On the most uncertain images; the most uncertain one is first where nothing is labelled."""
    rng = np.random.default_rng(seed)
    vectors, known = unit(rng.normal(size=(12, 5))), unit(rng.normal(size=(3, 5)))[:labelled]
    candidates = make_candidates(np.linspace(0.9, 0.1, 12), embeddings=vectors, labelled=known)
    wanted = [10 + row for row in brute_force(vectors, known, 6)]
    assert ids(pick(candidates, "diverse", 6, prefilter=2)) == wanted


def test_diverse_covers_at_most_twice_as_far_as_the_best_choice() -> None:
    """Sener and Savarese 2018, section 4: a 2-approximation, checked against all choices."""
    for seed in range(20):
        vectors = unit(np.random.default_rng(seed).normal(size=(9, 3)))
        rows = [number - 10 for number in ids(pick(make_candidates(np.ones(9), embeddings=vectors), "diverse", 3))]
        apart = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
        best = min(apart[:, list(some)].min(1).max() for some in itertools.combinations(range(9), 3))
        assert apart[:, rows].min(1).max() <= 2 * best + 1e-6


def test_diverse_looks_at_the_most_uncertain_only() -> None:
    """And takes the others, by uncertainty, when these are used up; images that are not embedded come in their turn."""
    rng = np.random.default_rng(5)
    vectors = unit(rng.normal(size=(30, 4)))
    vectors[3] = np.nan
    candidates = make_candidates(np.linspace(0.9, 0.1, 30), embeddings=vectors)
    picks = pick(candidates, "diverse", 5, prefilter=2)
    assert set(ids(picks)) <= {10, 11, 12, 14, 15, 16, 17, 18, 19, 20}
    assert {each.slot for each in picks} == {"diverse"}
    more = pick(candidates, "diverse", 30, prefilter=1)
    assert more[-1].id == 13
    assert more[-1].slot == "uncertain"


def test_diverse_without_a_score_does_not_speak_of_uncertainty() -> None:
    """It spreads over all images, and says no more than that."""
    vectors = unit(np.random.default_rng(5).normal(size=(30, 4)))
    picks = pick(make_candidates([math.nan] * 30, embeddings=vectors), "diverse", 3, prefilter=2)
    assert all("the least like the others of the 30 images" in each.reason for each in picks)
    assert not any("uncertain" in each.reason for each in picks)


def test_diverse_takes_one_of_each_bunch() -> None:
    """Where ranking takes all from the most uncertain bunch."""
    bunches = unit(np.repeat(np.eye(4), 5, axis=0) + np.random.default_rng(0).normal(scale=0.01, size=(20, 4)))
    candidates = make_candidates(np.linspace(0.9, 0.1, 20), embeddings=bunches)
    assert {(number - 10) // 5 for number in ids(pick(candidates, "uncertainty", 4))} == {0}
    assert {(number - 10) // 5 for number in ids(pick(candidates, "diverse", 4))} == {0, 1, 2, 3}


def test_what_was_drawn_by_lot_counts_as_chosen() -> None:
    """No diverse image lies beside a lot."""
    bunches = unit(np.repeat(np.eye(4), 5, axis=0) + np.random.default_rng(0).normal(scale=0.01, size=(20, 4)))
    candidates = make_candidates(np.linspace(0.9, 0.1, 20), embeddings=bunches)
    for seed in range(10):
        picks = choose(candidates, strategy="diverse", size=4, seed=seed, options=Options(random_share=0.25))
        assert {(each.id - 10) // 5 for each in picks} == {0, 1, 2, 3}


# typiclust


def test_clusters_are_those_that_are_there() -> None:
    """Well apart bunches are found whole, whatever the seed; fewer different vectors make fewer clusters."""
    bunches = np.repeat(np.eye(6), 8, axis=0) + np.random.default_rng(0).normal(scale=0.01, size=(48, 6))
    for seed in range(10):
        owners, centres = find_clusters(unit(bunches), 6, np.random.default_rng(seed))
        assert len({tuple(owners[start : start + 8]) for start in range(0, 48, 8)}) == 6
        assert all(len(set(owners[start : start + 8])) == 1 for start in range(0, 48, 8))
        assert centres.shape == (6, 6)
    owners, centres = find_clusters(unit(np.repeat(np.eye(3), 4, axis=0)), 7, np.random.default_rng(0))
    assert len(centres) == 3
    assert sorted(np.bincount(owners)) == [4, 4, 4]


def test_typicality_is_the_mean_distance_to_the_nearest_20() -> None:
    """Against a loop."""
    vectors = unit(np.random.default_rng(3).normal(size=(30, 4)))
    for row, found in enumerate(mean_distances(vectors)):
        apart = sorted(float(np.linalg.norm(vectors[row].astype(float) - each)) for each in np.delete(vectors, row, 0))
        assert found == pytest.approx(np.mean(apart[:20]), abs=1e-6)
    assert mean_distances(vectors[:1]).tolist() == [0]


def test_typiclust_takes_the_most_typical_image_of_each_kind() -> None:
    """The larger kinds first; kinds that have a label wait; nothing but embeddings is asked for."""
    rng = np.random.default_rng(1)
    sizes = (9, 12, 7, 6)
    kinds = [unit(np.eye(5)[k] + rng.normal(scale=0.05, size=(size, 5))) for k, size in enumerate(sizes)]
    vectors = np.concatenate(kinds)
    typical, start = [], 0
    for kind in kinds:
        apart = np.linalg.norm(kind[:, None].astype(float) - kind[None], axis=2)
        typical.append(10 + start + int(np.argmin(apart.sum(1) / (len(kind) - 1))))
        start += len(kind)
    candidates = make_candidates([math.nan] * 34, embeddings=vectors)
    picks = pick(candidates, "typiclust", 4)
    assert ids(picks) == [typical[1], typical[0], typical[2], typical[3]]
    assert picks[0].slot == "typical"
    assert picks[0].score is None
    assert picks[0].reason.startswith("the most typical left of 12 alike images without a label")
    known = make_candidates([math.nan] * 34, embeddings=vectors, labelled=kinds[1][:1])
    assert ids(pick(known, "typiclust", 3)) == [typical[0], typical[2], typical[3]]


def test_typiclust_leaves_what_is_not_embedded_to_the_end() -> None:
    vectors = unit(np.random.default_rng(2).normal(size=(8, 3)))
    vectors[[1, 4]] = np.nan
    picks = pick(make_candidates([math.nan] * 8, embeddings=vectors), "typiclust", 8)
    assert set(ids(picks)[-2:]) == {11, 14}
    assert [each.reason for each in picks[-2:]] == ["drawn by lot; not embedded yet"] * 2


# by lot


def test_foreground_random_draws_among_predicted_masks() -> None:
    """Each as likely as any other, whatever its uncertainty; images without one, or without a prediction, come last."""
    shares = np.array([[0, 0.1], [0.2, 0], [0.01, 0.3], [0, 0], [math.nan, math.nan]])
    candidates = make_candidates([0.9, 0.1, 0.5, 1.0, 0.3], shares=shares)
    firsts: Counter[int] = Counter()
    for seed in range(600):
        order = ids(pick(candidates, "foreground_random", 5, seed=seed))
        assert set(order[:3]) == {10, 11, 12}
        firsts[order[0]] += 1
    assert all(abs(firsts[number] - 200) < 4 * 11.5 for number in (10, 11, 12))


def test_random_draws_among_all() -> None:
    firsts = Counter(ids(pick(make_candidates([0.9, 0.1, math.nan]), "random", 1, seed=seed))[0] for seed in range(600))
    assert all(abs(firsts[number] - 200) < 4 * 11.5 for number in (10, 11, 12))


# claspe


def test_claspe_deals_two_thirds_out_over_the_labels() -> None:
    """A label that few images show, none of them uncertain, gets its part all the same."""
    count = 300
    shares = np.zeros((count, 2))
    shares[:200, 0] = 0.2
    shares[200:220, 1] = 0.1
    scores = np.linspace(1, 0.001, count)
    candidates = make_candidates(scores, shares=shares)
    assert not any(210 <= number < 230 for number in ids(pick(candidates, "uncertainty", 30)))
    for seed in range(5):
        picks = pick(candidates, "claspe", 30, seed=seed, beta=math.inf)
        dealt = [each for each in picks if "for the label" in each.reason]
        assert len(dealt) == int(0.66 * 30) == 19
        by_label = Counter("'0'" in each.reason for each in dealt)
        assert sorted(by_label.values()) == [9, 10]
        rare = [number for number in ids(picks) if 210 <= number < 230]
        assert rare == sorted(rare)
        assert len(rare) in (9, 10)


def test_claspe_goes_on_when_a_label_is_used_up() -> None:
    """What is left comes from the other labels and from all images."""
    shares = np.zeros((40, 2))
    shares[:3, 0], shares[3:30, 1] = 0.1, 0.1
    picks = pick(make_candidates(np.linspace(1, 0.1, 40), shares=shares), "claspe", 20, beta=math.inf)
    assert len(picks) == 20
    assert sum("label '1'" in each.reason for each in picks) >= 10


def test_claspe_without_noise_and_stratification_is_the_ranking() -> None:
    candidates = make_many(50, seed=8)
    found = pick(candidates, "claspe", 20, beta=math.inf, stratified_share=0.0)
    assert ids(found) == ids(pick(candidates, "uncertainty", 20))
