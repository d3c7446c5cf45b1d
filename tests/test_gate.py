"""The gate: what it lets through, what it refuses, and how often it is wrong on simulated validation sets."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskloop_learner.bench.gate import ask, count_promoted, simulate
from maskloop_learner.train.bootstrap import lower_bound, tail
from maskloop_learner.train.gate import Decision, Rules, decide, decide_alone, table_rows
from maskloop_learner.train.slices import Case, cut_slices, size_thirds

TRIALS = 100
DICE = st.floats(0, 1)


def case(number: int, champion: float, challenger: float, **changes: object) -> Case:
    made = Case(
        image=f"{number:064x}",
        group=f"patient {number}",
        label="Tumor",
        area=0.1,
        champion=champion,
        challenger=challenger,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def cases_of(difference: float, count: int = 40, **changes: object) -> list[Case]:
    """Images on which the challenger is better by exactly that."""
    return [case(k, 0.5, 0.5 + difference, **changes) for k in range(count)]


def test_the_gate_on_simulated_validation_sets() -> None:
    """120 images, sd of the difference 0.08, default rules, slices included: three points decide, in both ways."""
    promoted = {
        points: count_promoted(Rules(), images=120, difference=points / 100, seeds=range(TRIALS))
        for points in (-3, 0, 3)
    }
    print(f"promoted of {TRIALS}: {promoted}")
    assert promoted[-3] == 0
    assert promoted[3] >= 95
    assert 20 <= promoted[0] <= 60


def test_the_same_trial_gives_the_same_decision() -> None:
    assert ask(Rules(), images=60, difference=0, seed=3) == ask(Rules(), images=60, difference=0, seed=3)
    cases = simulate(images=60, difference=0, seed=3)
    bounds = {decide(cases, rules=Rules(seed=seed)).bound for seed in range(3)}
    assert len(bounds) == 3
    assert max(b or 0 for b in bounds) - min(b or 0 for b in bounds) < 0.003


def test_the_bound_is_the_one_of_the_normal_distribution() -> None:
    """With many images: mean - 1.645 standard errors."""
    values = np.random.default_rng(0).normal(0.01, 0.08, 400)
    bound = lower_bound(values, [str(k) for k in range(400)], level=0.95, seed=0)
    assert bound == pytest.approx(values.mean() - 1.645 * values.std(ddof=1) / 20, abs=0.0005)


def test_the_bound_holds_as_often_as_it_says_with_few_groups() -> None:
    """Twelve patients with what they have in common: images as units are far too sure."""
    rng, held, naive = np.random.default_rng(1), 0, 0
    for trial in range(200):
        patients = np.repeat(rng.normal(0, 0.05, 12), 10)
        values = patients + rng.normal(0, 0.05, 120)
        groups = [str(k // 10) for k in range(120)]
        bound = lower_bound(values, groups, level=0.95, seed=trial, resamples=500)
        alone = lower_bound(values, [str(k) for k in range(120)], level=0.95, seed=trial, resamples=500)
        held += bound is not None and bound < 0
        naive += alone is not None and alone < 0
    assert 0.92 <= held / 200 <= 0.99
    assert naive / 200 < 0.85


def test_images_of_one_group_have_no_bound() -> None:
    assert lower_bound([0.1, 0.2], ["a", "a"], level=0.95, seed=0) is None
    assert tail(0.95, 1000) == pytest.approx(0.05, abs=1e-3)
    assert tail(0.95, 3) < 0.001
    decision = decide(cases_of(0.1, group="one patient"), rules=Rules())
    assert decision.outcome == "shadow"
    assert "images of a single group show nothing" in decision.reason


@pytest.mark.parametrize(
    ("values", "groups", "level", "said"),
    [
        ([], [], 0.95, "one group for each"),
        ([0.1], [], 0.95, "one group for each"),
        ([float("nan")], ["a"], 0.95, "nan"),
        ([0.1], ["a"], 0.4, "0.4"),
    ],
)
def test_bad_differences_are_refused(values: list[float], groups: list[str], level: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        lower_bound(values, groups, level=level, seed=0)


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(DICE, DICE), min_size=1, max_size=80), seed=st.integers(0, 3))
def test_a_better_challenger_never_fares_worse(pairs: list[tuple[float, float]], seed: int) -> None:
    """Raising every Dice of the challenger never takes a promotion back; the bound never exceeds the mean."""
    rules = Rules(seed=seed)
    cases = [case(k, a, b) for k, (a, b) in enumerate(pairs)]
    better = [replace(each, challenger=min(1.0, each.challenger + 0.1)) for each in cases]
    order = ["reject", "shadow", "promote"]
    first, second = decide(cases, rules=rules), decide(better, rules=rules)
    assert order.index(second.outcome) >= order.index(first.outcome)
    if first.bound is not None and first.champion is not None and first.challenger is not None:
        assert first.bound <= first.challenger - first.champion + 1e-9
    assert Decision.from_dict(json.loads(json.dumps(first.to_dict()))) == first


def test_a_slice_that_is_worse_refuses_a_better_mean() -> None:
    """24 images of one scanner lose 6 points while the others win 4."""
    cases = [*cases_of(0.04, 100, source="A"), *(case(k, 0.5, 0.44, source="B") for k in range(100, 124))]
    decision = decide(cases, rules=Rules())
    assert decision.outcome == "reject"
    assert "source 'B' is worse by 0.060 on 24 images, more than 0.05" in decision.reason
    assert decide(cases, rules=Rules(slice_margin=0.07)).outcome == "promote"


def test_a_small_slice_is_reported_only() -> None:
    cases = [*cases_of(0.1, 100, source="A"), *(case(k, 0.5, 0.3, source="B") for k in range(100, 119))]
    decision = decide(cases, rules=Rules())
    assert decision.promote
    (small,) = [each for each in decision.slices if each.name == "B"]
    assert (small.images, small.counted, small.passed) == (19, False, True)
    assert ("source B", "19", "0.500", "0.300", "-0.200", "too few to count") in table_rows(decision)


def test_a_loss_of_exactly_the_margin_passes() -> None:
    """One of twenty empty images that is not left empty any more is five points."""
    cases = [*cases_of(0.04, 80), *(case(k, 1, float(k != 80), area=0.0) for k in range(80, 100))]
    assert decide(cases, rules=Rules()).promote
    assert not decide([*cases[:-1], replace(cases[-1], challenger=0.0)], rules=Rules()).promote


def test_sizes_are_thirds_of_each_label() -> None:
    """A label of small things is no slice by itself; empty cases have no size."""
    cases = [
        case(k, 0.5, 0.5, label=label, area=scale * (k + 1) / 10)
        for label, scale in (("Big", 1), ("Fleck", 0.01))
        for k in range(9)
    ]
    found = size_thirds([*cases, case(99, 1, 1, area=0.0)])
    assert found == (["small"] * 3 + ["medium"] * 3 + ["large"] * 3) * 2 + [""]
    names = {(each.kind, each.name): each.images for each in cut_slices(cases, margin=0.05, least=20)}
    assert names == {
        ("label", "Big"): 9,
        ("label", "Fleck"): 9,
        ("size", "small"): 3,
        ("size", "medium"): 3,
        ("size", "large"): 3,
    }


def test_an_image_counts_once_whatever_number_of_labels_it_has() -> None:
    """Means over images of means over labels: an image with three labels weighs as one with one."""
    cases = [*(case(1, 0.5, 0.2, label=label) for label in "abc"), case(2, 0.5, 0.8)]
    decision = decide(cases, rules=Rules())
    assert (decision.images, decision.champion) == (2, 0.5)
    assert decision.challenger == pytest.approx(0.5)


def test_few_images_promote_nothing_by_themselves() -> None:
    """29 images, far better: a person is asked. Allowed, the means decide; a worse one is refused either way."""
    better, worse = cases_of(0.2, 29), cases_of(-0.02, 29)
    held = decide(better, rules=Rules())
    assert held.outcome == "shadow"
    assert "fewer than 30 images show nothing: it waits for a person's `maskloop models promote`" in held.reason
    assert "MASKLOOP_GATE_ALLOW_FEW" in held.reason
    allowed = Rules(allow_few=True)
    assert decide(better, rules=allowed).promote
    assert decide(cases_of(-0.01, 29), rules=allowed).promote
    for rules in (Rules(), allowed):
        assert decide(worse, rules=rules).outcome == "reject"
    assert decide(cases_of(0.2, 30), rules=Rules()).promote


def test_calibration_may_not_get_worse() -> None:
    """The mean over labels counts; what is worse by the margin passes."""
    errors = {"a": {"champion": 0.04, "challenger": 0.11}, "b": {"champion": 0.06, "challenger": 0.05}}
    cases = cases_of(0.05)
    assert decide(cases, rules=Rules(calibration_margin=0.03), errors=errors).promote
    refused = decide(cases, rules=Rules(calibration_margin=0.02), errors=errors)
    assert refused.outcome == "reject"
    assert "its calibration error 0.080 is above the champion's 0.050 by more than 0.02" in refused.reason
    assert ("calibration error a", "", "0.040", "0.110", "+0.070", "") in table_rows(refused)
    with pytest.raises(ValueError, match="nan"):
        decide(cases, rules=Rules(), errors={"a": {"champion": 0.1, "challenger": float("nan")}})


def test_in_shadow_mode_nothing_is_promoted() -> None:
    """What would have passed waits; what would not is refused as ever."""
    decision = decide(cases_of(0.1), rules=Rules(shadow=True))
    assert decision.outcome == "shadow"
    assert "it waits in shadow for a person's word" in decision.reason
    assert decide(cases_of(-0.1), rules=Rules(shadow=True)).outcome == "reject"


def test_nothing_to_compare_on_is_left_to_a_person() -> None:
    empty, learnt = decide([], rules=Rules()), decide([], rules=Rules(), left_out=4)
    assert (empty.outcome, learnt.outcome) == ("shadow", "shadow")
    assert "no validation labels to compare on" in empty.reason
    assert "the champion has learnt from all 4 validation images" in learnt.reason
    assert table_rows(empty) == []


def test_a_first_model_passes_and_nonsense_is_refused() -> None:
    first = decide_alone({"a": [0.1], "b": []})
    assert first.promote
    assert first.figures == {"a": {"challenger": 0.1}}
    assert "there is no champion to compare with (mean Dice 0.100 on 1 validation images)" in first.reason
    assert decide_alone({"a": []}).promote
    with pytest.raises(ValueError, match="nan"):
        decide_alone({"a": [float("nan")]})
    with pytest.raises(ValueError, match=r"the challenger's Dice of 'Tumor' .* got 1\.2"):
        case(1, 0.5, 1.2)
    with pytest.raises(ValueError, match=r"level must be above 0\.5 and below 1, got 1\.0"):
        Rules(level=1.0)
    for name in "margin", "slice_margin", "calibration_margin":
        with pytest.raises(ValueError, match=rf"{name} must be in 0\.\.1, got -0\.1"):
            replace(Rules(), **{name: -0.1})  # type: ignore[arg-type]
