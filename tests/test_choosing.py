"""Batches: exact order, caps, near duplicates, a share by lot, reasons; by properties and by hand."""

import math
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from choosing_fixture import make_candidates, make_many, unit
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from maskloop_learner.pool.duplicates import find_duplicates
from maskloop_learner.pool.looks import Look
from maskloop_learner.pool.twins import Twins
from maskloop_learner.select.candidates import Candidates, Pick, take
from maskloop_learner.select.choosing import ChoosingError, Options, choose, make_choice
from maskloop_learner.select.reasons import ordinal
from maskloop_learner.select.strategies import STRATEGIES

ROOT = Path(__file__).parents[1]
SCORE = st.sampled_from([0.0, 0.1, 0.25, 0.4, 0.8, 1.0, math.nan])
"""Few, so that there are ties; and what is not known."""
PLAIN = Options(random_share=0, keep_duplicates=True)
NAMES = st.sampled_from(sorted(STRATEGIES))


def ids_of(picks: list[Pick]) -> list[int]:
    return [pick.id for pick in picks]


def ranked(candidates: Candidates) -> list[int]:
    """Ids by the rule in words: the larger score first, then what decides ties, the unknown last."""
    rows = list(zip(candidates.ids.tolist(), candidates.scores.tolist(), candidates.tie_break.tolist(), strict=True))
    known = sorted((-score, tie, number) for number, score, tie in rows if not math.isnan(score))
    unknown = sorted((tie, number) for number, score, tie in rows if math.isnan(score))
    return [row[-1] for row in (*known, *unknown)]


@settings(deadline=None)
@given(st.lists(SCORE, min_size=1, max_size=30).filter(lambda x: not all(map(math.isnan, x))), st.integers(1, 40))
def test_the_default_without_lots_is_the_ranking(scores: list[float], size: int) -> None:
    """Exactly: ties by id, unknown scores last, fewer than asked for where there are fewer."""
    candidates = make_candidates(scores)
    picks = choose(candidates, strategy="uncertainty", size=size, seed=0, options=PLAIN)
    assert ids_of(picks) == ranked(candidates)[:size]


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(8)))
def test_ties_fall_as_the_caller_says(ties: list[int]) -> None:
    """Label Studio's ids decide in the pool's ranking, not the pool's."""
    candidates = make_candidates([0.5] * 8, ties=ties)
    picks = choose(candidates, strategy="uncertainty", size=8, seed=0, options=PLAIN)
    assert [ties[number - 10] for number in ids_of(picks)] == list(range(8))


@settings(deadline=None, max_examples=40)
@given(NAMES, st.integers(0, 5), st.permutations(range(40)), st.integers(0, 3))
def test_the_order_of_the_rows_does_not_matter(name: str, seed: int, order: list[int], data: int) -> None:
    """Whoever reads the candidates, in whatever order, chooses the same images for the same reasons."""
    candidates = make_many(40, seed=data)
    options = Options(random_share=0.2, group_cap=4)
    wanted = choose(candidates, strategy=name, size=12, seed=seed, options=options)
    mixed = take(candidates, np.array(order))
    assert choose(mixed, strategy=name, size=12, seed=seed, options=options) == wanted


@settings(deadline=None, max_examples=60)
@given(NAMES, st.integers(0, 1000), st.integers(1, 50), st.integers(1, 3), st.sampled_from([0, 0.1, 0.35, 1]))
def test_no_image_comes_twice_and_no_group_too_often(name: str, seed: int, size: int, cap: int, share: float) -> None:
    """And the batch is as large as the caps let it be: an image that is left out belongs to a full group."""
    candidates = make_many(40, seed=seed)
    options = Options(random_share=share, group_cap=cap)
    choice = make_choice(candidates, strategy=name, size=size, seed=seed, options=options)
    chosen = ids_of(choice.picks)
    assert len(set(chosen)) == len(chosen) <= size
    group_of = dict(zip(candidates.ids.tolist(), candidates.groups.tolist(), strict=True))
    counts = Counter(group_of[number] for number in chosen if group_of[number] >= 0)
    assert max(counts.values(), default=0) <= cap
    if len(chosen) < size:
        left = set(group_of) - set(chosen)
        assert all(counts[group_of[number]] == cap for number in left)
        assert f"{len(chosen)} images chosen of {size} asked for" in choice.shortage
    else:
        assert choice.shortage == ""


@settings(deadline=None)
@given(st.integers(1, 60), st.floats(0, 1), st.integers(0, 50))
def test_the_share_by_lot_is_exact_and_spread(size: int, share: float, seed: int) -> None:
    """Rounded to whole images, no two runs of the others differ by more than one; the rest is the ranking."""
    candidates = make_many(60, seed=1)
    picks = choose(candidates, strategy="uncertainty", size=size, seed=seed, options=Options(random_share=share))
    lots = [place for place, pick in enumerate(picks) if pick.slot == "random"]
    assert len(picks) == size
    assert len(lots) == int(share * size + 0.5)
    between = np.diff(lots)
    assert len(between) == 0 or between.max() - between.min() <= 1
    drawn = {picks[place].id for place in lots}
    others = [pick.id for pick in picks if pick.slot != "random"]
    assert others == [number for number in ranked(candidates) if number not in drawn][: len(others)]


def test_lots_are_a_fair_sample_of_all_candidates() -> None:
    """The most uncertain images too: each of 20 is among 5 lots in a quarter of the batches."""
    candidates = make_many(20, seed=3)
    counts: Counter[int] = Counter()
    for seed in range(400):
        picks = choose(candidates, strategy="uncertainty", size=10, seed=seed, options=Options(random_share=0.5))
        counts.update(pick.id for pick in picks if pick.slot == "random")
    assert sum(counts.values()) == 2000
    # Standard deviation of a count: sqrt(400 / 4 * 3 / 4) = 8.7.
    assert all(abs(counts[number] - 100) < 4 * 8.7 for number in candidates.ids.tolist())


def test_a_seed_gives_the_same_batch_in_every_process() -> None:
    """With another hash seed and number of threads too; another seed gives another batch, for there are lots."""
    code = "import sys; sys.path.insert(0, 'tests'); from test_choosing import batches; print(batches(seed=7))"
    env = {"PYTHONPATH": "learner", "PYTHONHASHSEED": "11", "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    here, other = batches(seed=7), batches(seed=8)
    assert done.stdout.strip() == str(here)
    assert all(other[name] != here[name] for name in STRATEGIES)


def batches(*, seed: int) -> dict[str, list[str]]:
    """One by every strategy, of the same candidates."""
    candidates = make_many(300, seed=4, width=32)
    found = {name: choose(candidates, strategy=name, size=30, seed=seed, options=Options()) for name in STRATEGIES}
    return {name: [repr(pick) for pick in picks] for name, picks in found.items()}


def looks(count: int) -> list[Look]:
    """Different smooth pictures."""
    found = []
    for seed in range(count):
        smooth = gaussian_filter(np.random.default_rng(seed).normal(size=(16, 16)), 2)
        grey = np.round((smooth - smooth.min()) * 255 / np.ptp(smooth)).astype(np.uint8)
        found.append(Look(f"{seed * 0x0F0F0F0F0F0F0F1 % 2**64:016x}", grey.tobytes().hex()))
    return found


def brighter(look: Look) -> Look:
    """The same picture with another gamma, saved with a bit of its hash changed."""
    grey = np.frombuffer(bytes.fromhex(look.thumbnail), np.uint8) / 255
    return Look(f"{int(look.phash, 16) ^ 5:016x}", np.round(grey**0.9 * 255).astype(np.uint8).tobytes().hex())


def test_of_pictures_that_are_nearly_the_same_the_first_is_chosen() -> None:
    """It says how many were passed over for it; with `keep_duplicates` all are chosen."""
    pictures = looks(4)
    pictures += [brighter(pictures[0]), brighter(pictures[0]), Look("", "")]
    candidates = make_candidates(
        [0.9, 0.3, 0.2, 0.1, 0.8, 0.7, 0.6],
        phashes=[look.phash for look in pictures],
        thumbnails=[look.thumbnail for look in pictures],
    )
    choice = make_choice(candidates, strategy="uncertainty", size=7, seed=0, options=Options(random_share=0))
    assert ids_of(choice.picks) == [10, 16, 11, 12, 13]
    assert choice.picks[0].figures["passed_over"] == 2
    assert choice.picks[0].reason == "most uncertain of 7 (0.900); 2 nearly equal passed over"
    assert choice.shortage == "5 images chosen of 7 asked for: 2 are nearly the same picture as a chosen one"
    assert choice.note == choice.shortage
    assert len(choose(candidates, strategy="uncertainty", size=7, seed=0, options=PLAIN)) == 7


def test_pictures_that_come_one_by_one_are_joined_by_the_same_rule() -> None:
    """As when all are looked at together."""
    pictures = looks(12)
    pictures += [brighter(look) for look in pictures[::3]]
    together = set(find_duplicates(pictures, range(len(pictures))))
    twins, found = Twins(), set()
    for number, look in enumerate(pictures):
        twin = twins.find(look)
        if twin is None:
            twins.add(number, look)
        else:
            found.add((twin, number))
    assert found == together == {(0, 12), (3, 13), (6, 14), (9, 15)}


def test_a_pick_says_why_in_words_and_figures() -> None:
    candidates = make_candidates(
        [0.2, 0.412, math.nan, 0.3],
        embeddings=unit([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [math.nan, 1.0]]),
        labelled=unit([[1, 0]]),
    )
    first, second, third, fourth = choose(candidates, strategy="uncertainty", size=4, seed=0, options=PLAIN)
    assert first == Pick(
        id=11,
        slot="uncertain",
        score=0.412,
        reason="most uncertain of 3 (0.412); 1.41 from the nearest labelled or chosen image",
        figures={"rank": 1, "of": 3, "distance": 1.4142, "neighbours": []},
    )
    assert second.reason == "2nd most uncertain of 3 (0.300)"
    assert third.figures == {"rank": 3, "of": 3, "distance": 0.0, "neighbours": [11]}
    assert fourth.reason == "not scored yet; 0.77 from the nearest labelled or chosen image"
    assert fourth.score is None


def test_another_score_has_its_name_in_the_reason() -> None:
    """The strategy's own, or the one that the caller has read."""
    candidates = make_candidates([0.1, 0.2])
    by_disagreement = choose(candidates, strategy="mutual_information", size=1, seed=0, options=PLAIN)
    assert by_disagreement[0].reason == "highest mutual_information/mean of 2 (0.200)"
    options = Options(random_share=0, score="variance/top_q")
    by_spread = choose(candidates, strategy="uncertainty", size=2, seed=0, options=options)
    assert by_spread[1].reason == "2nd highest variance/top_q of 2 (0.100)"


def test_ordinals_are_english() -> None:
    said = [ordinal(number) for number in (1, 2, 3, 4, 11, 12, 13, 21, 112, 1003)]
    assert said == ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th", "1,003rd"]


def test_no_candidates_make_an_empty_batch() -> None:
    choice = make_choice(make_candidates([]), strategy="uncertainty", size=3, seed=0, options=Options())
    assert choice.picks == []
    assert choice.shortage == choice.note == "0 images chosen of 3 asked for: there are 0 candidates"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 0}, "a batch must have 1 image or more, got size 0"),
        ({"seed": -1}, "the seed must be 0 or more, got -1"),
        ({"strategy": "magic"}, "there is no strategy 'magic'; choose one of uncertainty, mutual_information"),
    ],
)
def test_what_cannot_be_chosen_is_named(changes: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"strategy": "uncertainty", "size": 1, "seed": 0, "options": PLAIN} | changes
    with pytest.raises(ChoosingError, match=message):
        choose(make_candidates([0.1]), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"random_share": 1.5}, "random_share must be between 0 and 1, got 1.5"),
        ({"group_cap": 0}, "group_cap must be 1 or more images of a group, or None, got 0"),
        ({"beta": -1.0}, "beta must be 0 or more"),
        ({"beta": math.nan}, "beta must be 0 or more"),
        ({"prefilter": 0}, "prefilter must be 1 or more, got 0"),
    ],
)
def test_options_out_of_range_are_named(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ChoosingError, match=message):
        Options(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "missing", "fix"),
    [
        ("uncertainty", "scores", "train a model and let it predict, or take the strategy 'typiclust'"),
        ("power", "scores", "train a model"),
        ("claspe", "scores", "train a model"),
        ("diverse", "embeddings", "let a GPU worker run"),
        ("typiclust", "embeddings", "let a GPU worker run"),
        ("foreground_random", "shares", "take the strategy 'random'"),
    ],
)
def test_a_strategy_says_what_it_lacks(name: str, missing: str, fix: str) -> None:
    with pytest.raises(ChoosingError, match=f"the strategy '{name}' needs {missing}.*{fix}"):
        choose(make_candidates([math.nan] * 3), strategy=name, size=2, seed=0, options=Options())


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        (make_candidates([0.1, math.inf]), "candidates' `scores` hold infinite numbers"),
        (make_candidates([0.1, 0.2], ids=[5, 5]), "candidate 5 is there twice"),
        (make_candidates([0.1, 0.2], ids=[1]), "candidates have 1 ids, so `scores` must have 1 rows, got 2"),
        (
            make_candidates([0.1], embeddings=unit([[1, 0]]), labelled=unit([[1, 0, 0]])),
            "they must come from one space",
        ),
        (
            replace(
                make_candidates([0.1], labelled=unit([[1, 0]]), embeddings=unit([[1, 0]])), labelled_ids=np.arange(2)
            ),
            "`labelled_ids` must name each of the 1 `labelled`, or none, got 2 names",
        ),
        (
            replace(make_candidates([0.1], shares=[[0.1, 0.2]]), labels=("cyst",)),
            "`labels` must name each of the 2 `shares`, or none, got 1 names",
        ),
    ],
)
def test_candidates_that_do_not_fit_together_are_refused(candidates: Candidates, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose(candidates, strategy="random", size=1, seed=0, options=Options())
