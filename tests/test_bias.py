"""The alarm for automation bias: who is found, who is not, and that chance alone finds hardly anybody."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from maskloop_learner.evaluate.bias import RULES, Alarm, Habit, Masks, Rules, Share, find_alarms
from maskloop_learner.evaluate.exact import Stratum, exceeds, holm


def masks(shown: int, unedited: int, seconds: float | None = 10.0) -> Masks:
    """Of one version; every mask takes the same time."""
    times = [] if seconds is None else [seconds] * unedited
    return Masks(shown=shown, unedited=unedited, seconds=times, all_seconds=times)


def habit(name: str, shown: int, unedited: int, seconds: float | None = 10.0) -> Habit:
    """An annotator under one version."""
    return Habit(name=name, versions={"v1": masks(shown, unedited, seconds)})


def alarms(*habits: Habit, blind: int = 0, good: int = 0, rules: Rules = RULES) -> list[Alarm]:
    """Who is found, with blind annotations of one version."""
    return find_alarms(habits, blind={"v1": Share(good, blind)}, rules=rules).alarms


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 60), st.integers(0, 60), st.integers(1, 60))
def test_the_exact_test_is_fishers(hits: int, count: int, other: int, others: int) -> None:
    """As scipy.stats computes it."""
    hits, other = min(hits, count), min(other, others)
    table = [[hits, count - hits], [other, others - other]]
    found = exceeds([Stratum(hits, count, other, others)])
    assert found == pytest.approx(stats.fisher_exact(table, "greater").pvalue, abs=1e-9)


@pytest.mark.parametrize(
    "strata",
    [
        [Stratum(3, 4, 1, 5), Stratum(2, 6, 1, 3)],
        [Stratum(9, 10, 3, 9), Stratum(5, 5, 5, 5), Stratum(4, 7, 1, 6)],
        [Stratum(0, 4, 4, 4), Stratum(3, 3, 0, 2)],
    ],
)
def test_strata_add_up_to_what_counting_every_case_says(strata: list[Stratum]) -> None:
    """The chance of every combination of hits, one by one."""
    total = 0.0
    for hits in itertools.product(*(range(each.whole + 1) for each in strata)):
        chances = [
            stats.hypergeom.pmf(k, each.whole + each.other_whole, each.part + each.other_part, each.whole)
            for k, each in zip(hits, strata, strict=True)
        ]
        total += float(np.prod(chances)) * (sum(hits) >= sum(each.part for each in strata))
    assert exceeds(strata) == pytest.approx(total, rel=1e-9)


def test_the_exact_test_bears_large_counts() -> None:
    assert exceeds([Stratum(60_000, 100_000, 60_000, 100_000)]) == pytest.approx(0.5, abs=0.01)
    assert exceeds([Stratum(61_000, 100_000, 60_000, 100_000)]) < 1e-5
    assert exceeds([Stratum(600, 1000, 600, 1000)] * 100) == pytest.approx(0.5, abs=0.01)
    assert exceeds([Stratum(610, 1000, 600, 1000)] * 100) < 1e-5
    assert exceeds([Stratum(90_000, 100_000, 10_000, 100_000)]) == 0.0


def test_holm_corrects_step_by_step() -> None:
    """The example of Holm's procedure: 4 times the smallest, 3 times the next, never falling."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_who_leaves_more_than_is_good_enough_on_blind_images_is_found() -> None:
    """However slowly, and also when nobody else is there."""
    (alarm,) = alarms(habit("kim", 100, 90, seconds=300), blind=40, good=16)
    assert (alarm.name, alarm.against, alarm.share, alarm.expected) == ("kim", "blind", 0.9, 0.4)
    assert alarm.p < 1e-6
    assert alarm.seconds == 300


def test_who_leaves_what_is_good_enough_is_not_found() -> None:
    """A good model's masks should be left, quickly too."""
    assert alarms(habit("kim", 400, 380, seconds=1), blind=50, good=47) == []


def test_peers_tell_only_of_who_is_hasty_too() -> None:
    """The others may be fussy: more is left, but looked at as long."""
    peers = [habit("ana", 100, 30), habit("ben", 100, 35)]
    found = alarms(habit("kim", 100, 95, seconds=2), *peers)
    assert [(alarm.name, alarm.against) for alarm in found] == [("kim", "peers")]
    assert (found[0].seconds, found[0].peers_seconds) == (2, 10)
    assert alarms(habit("kim", 100, 95, seconds=9), *peers) == []


def test_without_times_nobody_is_called_hasty() -> None:
    """Lead times of zero do not count, so nothing is known of them."""
    peers = [habit("ana", 100, 30), habit("ben", 100, 35)]
    assert alarms(habit("kim", 100, 95, seconds=None), *peers) == []


def test_peers_who_leave_nothing_are_held_against_by_all_their_times() -> None:
    slow = Habit(name="ana", versions={"v1": Masks(shown=100, unedited=0, all_seconds=[60.0] * 100)})
    (alarm,) = alarms(habit("kim", 100, 95, seconds=2), slow)
    assert (alarm.expected, alarm.peers_seconds) == (0.0, 60.0)


def test_few_masks_tell_nothing() -> None:
    few = RULES.fewest - 1
    assert alarms(habit("kim", few, few, seconds=1), habit("ana", 500, 50), blind=100, good=10) == []
    assert alarms(habit("kim", 100, 100), blind=RULES.fewest_blind - 1, good=0) == []


def test_a_difference_that_does_not_matter_is_none() -> None:
    """With thousands of labels the test alone would find a hundredth."""
    assert exceeds([Stratum(5500, 10_000, 5000, 10_000)]) < 1e-9
    assert alarms(habit("kim", 10_000, 5500, seconds=1), habit("ana", 10_000, 5000)) == []


def test_chance_alone_finds_hardly_anybody() -> None:
    """Six alike annotators, the model as good as they think, no margin: one look in a hundred at most has an alarm."""
    dice, looks, rules = np.random.default_rng(0), 1000, Rules(margin=0.0, haste=2.0)
    found = 0
    for _ in range(looks):
        team = [habit(str(n), 60, int(dice.binomial(60, 0.5))) for n in range(6)]
        found += bool(alarms(*team, blind=60, good=int(dice.binomial(60, 0.5)), rules=rules))
    assert found / looks <= 0.01 + 2 * np.sqrt(0.01 * 0.99 / looks)


def test_versions_of_which_more_may_be_left_accuse_nobody() -> None:
    """Kim works under a better model only: 70 % of its masks are good enough, and were all versions one, 9 of 30."""
    ana, kim = Habit(name="ana", versions={"v1": masks(100, 10)}), Habit(name="kim", versions={"v5": masks(100, 70, 2)})
    found = find_alarms([ana, kim], blind={"v1": Share(2, 20), "v5": Share(7, 10)})
    assert found.alarms == []
    assert found.tested == {"blind": 2}, "nobody else worked under the same version"
    assert exceeds([Stratum(70, 100, 9, 30)]) < 0.001


def test_versions_of_which_more_may_be_left_accuse_nobody_among_peers() -> None:
    """Both leave a tenth of one model's masks and eight tenths of the next one's; Kim saw more of that."""
    ana = Habit(name="ana", versions={"v1": masks(200, 20, 40), "v2": masks(20, 16, 4)})
    kim = Habit(name="kim", versions={"v1": masks(20, 2, 40), "v2": masks(200, 160, 4)})
    found = find_alarms([ana, kim], blind={}, rules=Rules(margin=0.0, haste=2.0))
    assert (found.alarms, found.tested) == ([], {"peers": 2})
    assert exceeds([Stratum(162, 220, 36, 220)]) < 1e-9


def test_an_excess_within_versions_is_found_where_all_together_hide_it() -> None:
    """Both leave two thirds in all, but Kim saw more of the worse model. Nobody else saw v3, which says nothing."""
    kim = Habit(name="kim", versions={"v1": masks(100, 60, 2), "v2": masks(20, 20, 2), "v3": masks(50, 50)})
    ana = Habit(name="ana", versions={"v1": masks(20, 2, 30), "v2": masks(100, 78, 30)})
    (alarm,) = find_alarms([kim, ana], blind={}).alarms
    assert (alarm.name, alarm.against, alarm.shown, alarm.others) == ("kim", "peers", 120, 120)
    assert (alarm.share, alarm.expected) == pytest.approx((80 / 120, (100 * 0.1 + 20 * 0.78) / 120))
    assert (alarm.seconds, alarm.peers_seconds) == (2, 30)


def test_haste_is_of_one_version_at_a_time() -> None:
    """Kim is as quick as Ana under either; Ana's many times under the slow one do not make Kim hasty."""
    ana = Habit(name="ana", versions={"v1": masks(300, 60, 60), "v2": masks(100, 20, 5)})
    kim = Habit(name="kim", versions={"v1": masks(40, 30, 60), "v2": masks(200, 150, 5)})
    assert exceeds([Stratum(30, 40, 60, 300), Stratum(150, 200, 20, 100)]) < 1e-9
    assert find_alarms([ana, kim], blind={}).alarms == []


@pytest.mark.parametrize(
    ("blind", "tested"),
    [
        ({}, {}),
        ({"v2": Share(0, 100)}, {}),
        ({"v1": Share(0, 9), "v2": Share(0, 100)}, {}),
        ({"v1": Share(0, 10)}, {"blind": 1}),
    ],
)
def test_what_was_looked_at_is_told(blind: dict[str, Share], tested: dict[str, int]) -> None:
    """An annotator alone is held against blind images of the same version, from ten on."""
    assert find_alarms([habit("kim", 100, 0)], blind=blind).tested == tested


@pytest.mark.parametrize(("unedited", "shown"), [(-1, 5), (6, 5)])
def test_counts_that_cannot_be_are_refused(unedited: int, shown: int) -> None:
    with pytest.raises(ValueError, match=r"kim: a part must be between 0 and the whole"):
        alarms(Habit(name="kim", versions={"v1": Masks(shown=shown, unedited=unedited)}))
    with pytest.raises(ValueError, match="blind annotations"):
        alarms(blind=1, good=2)
