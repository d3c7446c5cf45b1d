"""The alarm for automation bias: who is found, who is not, and that chance alone finds hardly anybody."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from maskloop_learner.evaluate.bias import RULES, Habit, exceeds, find_alarms, holm


def habit(name: str, shown: int, unedited: int, seconds: float | None = 10.0) -> Habit:
    """An annotator who takes the same time for every mask."""
    times = [] if seconds is None else [seconds] * unedited
    return Habit(name=name, shown=shown, unedited=unedited, seconds=times, all_seconds=times)


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 60), st.integers(0, 60), st.integers(1, 60))
def test_the_exact_test_is_fishers(hits: int, count: int, other: int, others: int) -> None:
    """As scipy.stats computes it."""
    hits, other = min(hits, count), min(other, others)
    table = [[hits, count - hits], [other, others - other]]
    assert exceeds(hits, count, other, others) == pytest.approx(stats.fisher_exact(table, "greater").pvalue, abs=1e-9)


def test_the_exact_test_bears_large_counts() -> None:
    assert exceeds(60_000, 100_000, 60_000, 100_000) == pytest.approx(0.5, abs=0.01)
    assert exceeds(61_000, 100_000, 60_000, 100_000) < 1e-5


def test_holm_corrects_step_by_step() -> None:
    """The example of Holm's procedure: 4 times the smallest, 3 times the next, never falling."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_who_leaves_more_than_is_good_enough_on_blind_images_is_found() -> None:
    """However slowly, and also when nobody else is there."""
    (alarm,) = find_alarms([habit("kim", 100, 90, seconds=300)], blind=40, good=16)
    assert (alarm.name, alarm.against, alarm.share, alarm.expected) == ("kim", "blind", 0.9, 0.4)
    assert alarm.p < 1e-6
    assert alarm.seconds == 300


def test_who_leaves_what_is_good_enough_is_not_found() -> None:
    """A good model's masks should be left, quickly too."""
    assert find_alarms([habit("kim", 400, 380, seconds=1)], blind=50, good=47) == []


def test_peers_tell_only_of_who_is_hasty_too() -> None:
    """The others may be fussy: more is left, but looked at as long."""
    peers = [habit("ana", 100, 30), habit("ben", 100, 35)]
    found = find_alarms([habit("kim", 100, 95, seconds=2), *peers], blind=0, good=0)
    assert [(alarm.name, alarm.against) for alarm in found] == [("kim", "peers")]
    assert (found[0].seconds, found[0].peers_seconds) == (2, 10)
    assert find_alarms([habit("kim", 100, 95, seconds=9), *peers], blind=0, good=0) == []


def test_without_times_nobody_is_called_hasty() -> None:
    """Lead times of zero do not count, so nothing is known of them."""
    peers = [habit("ana", 100, 30), habit("ben", 100, 35)]
    assert find_alarms([habit("kim", 100, 95, seconds=None), *peers], blind=0, good=0) == []


def test_peers_who_leave_nothing_are_held_against_by_all_their_times() -> None:
    slow = Habit(name="ana", shown=100, unedited=0, seconds=[], all_seconds=[60.0] * 100)
    (alarm,) = find_alarms([habit("kim", 100, 95, seconds=2), slow], blind=0, good=0)
    assert (alarm.expected, alarm.peers_seconds) == (0.0, 60.0)


def test_few_masks_tell_nothing() -> None:
    few = RULES.fewest - 1
    assert find_alarms([habit("kim", few, few, seconds=1), habit("ana", 500, 50)], blind=100, good=10) == []
    assert find_alarms([habit("kim", 100, 100)], blind=RULES.fewest_blind - 1, good=0) == []


def test_a_difference_that_does_not_matter_is_none() -> None:
    """With thousands of labels the test alone would find a hundredth."""
    assert exceeds(5500, 10_000, 5000, 10_000) < 1e-9
    assert find_alarms([habit("kim", 10_000, 5500, seconds=1), habit("ana", 10_000, 5000)], blind=0, good=0) == []


def test_chance_alone_finds_hardly_anybody() -> None:
    """Six alike annotators, the model as good as they think, no margin: one look in a hundred at most has an alarm."""
    dice, looks, rules = np.random.default_rng(0), 1000, type(RULES)(margin=0.0, haste=2.0)
    found = 0
    for _ in range(looks):
        team = [habit(str(n), 60, int(dice.binomial(60, 0.5))) for n in range(6)]
        found += bool(find_alarms(team, blind=60, good=int(dice.binomial(60, 0.5)), rules=rules))
    assert found / looks <= 0.01 + 2 * np.sqrt(0.01 * 0.99 / looks)


@pytest.mark.parametrize(("unedited", "shown"), [(-1, 5), (6, 5)])
def test_counts_that_cannot_be_are_refused(unedited: int, shown: int) -> None:
    with pytest.raises(ValueError, match=r"kim: a part must be between 0 and the whole"):
        find_alarms([Habit(name="kim", shown=shown, unedited=unedited, seconds=[])], blind=0, good=0)
    with pytest.raises(ValueError, match="blind annotations"):
        find_alarms([], blind=1, good=2)
