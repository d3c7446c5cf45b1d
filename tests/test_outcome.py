"""What a finished simulation says of its strategies, in figures and in words."""

import json
from html import escape
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulate_fixture import imagine_plan, write_records

from maskloop_learner.select.outcome import conclude
from maskloop_learner.select.page import draw_page
from maskloop_learner.select.plan import SimulationError
from maskloop_learner.select.report import write_report
from maskloop_learner.select.tables import NOT_REACHED, effort_rows, target_rows

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((ROOT / "docs" / "simulate.schema.json").read_text())
RANDOM = [[0.30, 0.50, 0.60], [0.32, 0.48, 0.62], [0.28, 0.52, 0.61]]


def results(folder: Path, lead: list[float], **changes: Any) -> dict[str, Any]:
    """Three seeds; uncertainty is ahead of random by `lead`, one number a seed, after the first labels."""
    plan = imagine_plan(folder, seeds=len(lead), **changes)
    dice = {("random", seed): RANDOM[seed] for seed in range(len(lead))}
    for seed, more in enumerate(lead):
        first, *rest = RANDOM[seed]
        dice["uncertainty", seed] = [first, *(each + more for each in rest)]
    write_records(plan, dice)
    return conclude(plan)


def test_figures_are_those_of_the_records(tmp_path: Path) -> None:
    """Areas by trapezoids, means over seeds, targets by what random reaches."""
    found = results(tmp_path, [0.1, 0.1, 0.1])
    random, mine = found["strategies"]["random"], found["strategies"]["uncertainty"]
    assert found["budgets"] == [4, 8, 12]
    assert random["seeds"][0]["dice"] == pytest.approx([0.3, 0.5, 0.6])
    assert random["seeds"][0]["aubc"] == pytest.approx((0.4 + 0.55) / 2)
    assert mine["curve"][2]["mean"] == pytest.approx(0.61 + 0.1)
    assert mine["against_random"]["mean"] == pytest.approx(0.1 * 0.75)
    assert [target["dice"] for target in found["targets"]] == pytest.approx([0.95 * 0.61, 0.61])
    reached = mine["labels_to_target"][1]
    assert reached["labels"] == pytest.approx(8 + 4 * (0.61 - 0.6) / 0.11)
    assert reached["saved"] == pytest.approx(12 - reached["labels"])
    assert (reached["reached"], reached["sooner"], reached["later"]) == (3, 3, 0)
    assert random["seeds"][0]["pixels"] == [36, 36]
    assert random["effort"] == {"pixels": 9, "parts": 1}


def test_a_clear_lead_is_told_with_its_figures(tmp_path: Path) -> None:
    """Better, and ahead in all seeds; over other test images too."""
    told = results(tmp_path, [0.10, 0.11, 0.12])["strategies"]["uncertainty"]["against_random"]
    assert told["verdict"] == "better"
    assert told["text"].startswith("uncertainty beats random: AUBC +0.0825 (")
    assert "ahead in 3 of 3 seeds" in told["text"]
    assert told["low"] > 0
    assert told["over_images"]["low"] > 0


@pytest.mark.parametrize(
    ("lead", "verdict", "said"),
    [
        ([0.10, -0.08, 0.01], "unclear", "uncertainty does not beat random: "),
        ([0.0, 0.0, 0.0], "unclear", "uncertainty does not beat random: "),
        ([-0.10, -0.11, -0.12], "worse", "uncertainty does not beat random, it is worse: "),
        ([0.10], "unknown", "on one seed, which says nothing of chance"),
    ],
)
def test_a_strategy_that_does_not_beat_random_is_called_so(
    tmp_path: Path, lead: list[float], verdict: str, said: str
) -> None:
    """Plainly, with the paired figures, on the page too."""
    found = results(tmp_path, lead)
    told = found["strategies"]["uncertainty"]["against_random"]
    assert told["verdict"] == verdict
    assert said in told["text"]
    assert found["verdicts"] == [told["text"]]
    assert f'<li class="{verdict}">' in draw_page(found, title="Simulation")


def test_intervals_widen_with_the_number_of_strategies(tmp_path: Path) -> None:
    """Of three comparisons at 5 % each, one in seven would find a lead where there is none."""
    (tmp_path / "one").mkdir()
    (tmp_path / "three").mkdir()
    alone = results(tmp_path / "one", [0.05, 0.07, 0.03])
    plan = imagine_plan(tmp_path / "three", strategies=("random", "uncertainty", "power", "diverse"))
    dice = {("random", seed): RANDOM[seed] for seed in range(3)}
    for seed, more in enumerate([0.05, 0.07, 0.03]):
        for name in plan.strategies[1:]:
            dice[name, seed] = [RANDOM[seed][0], *(each + more for each in RANDOM[seed][1:])]
    write_records(plan, dice)
    one = alone["strategies"]["uncertainty"]["against_random"]
    three = conclude(plan)["strategies"]["uncertainty"]["against_random"]
    assert one["mean"] == pytest.approx(three["mean"])
    assert three["low"] < one["low"] < one["high"] < three["high"]
    assert one["p"] == pytest.approx(three["p"])
    assert three["p_adjusted"] == pytest.approx(3 * three["p"])
    assert one["verdict"] == "better"
    assert three["verdict"] == "unclear"


def test_a_target_that_is_not_reached_is_a_value(tmp_path: Path) -> None:
    """null in the file, `not reached` on the page, and never a number of labels."""
    plan = imagine_plan(tmp_path)
    write_records(plan, {(name, seed): RANDOM[seed] for name in plan.strategies for seed in range(3)})
    found = conclude(plan, targets=[0.55, 0.99])
    near, far = found["strategies"]["random"]["labels_to_target"]
    assert near["labels"] == pytest.approx(8 + 4 * 0.05 / 0.11)
    assert near["reached"] == 3
    assert (far["labels"], far["median"], far["saved"], far["reached"]) == (None, None, None, 0)
    assert (far["sooner"], far["later"]) == (0, 0)
    assert [row[4] for row in target_rows(found)] == [NOT_REACHED, NOT_REACHED]
    assert NOT_REACHED in draw_page(found, title="Simulation")


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=4))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_reaches_what_it_reaches(tmp_path: Path, random: list[list[float]]) -> None:
    """To the last bit: the targets that nobody gave are its own."""
    plan = imagine_plan(tmp_path, seeds=len(random), strategies=("random",))
    write_records(plan, {("random", seed): curve for seed, curve in enumerate(random)})
    for each in conclude(plan)["strategies"]["random"]["labels_to_target"]:
        assert each["saved"] == 0
        assert each["sooner"] == each["later"] == 0


def test_seeds_that_are_sooner_or_later_than_random_are_counted(tmp_path: Path) -> None:
    """Each beside random's curve of the same seed; never is later than any number of labels."""
    plan = imagine_plan(tmp_path)
    mine = [[0.30, 0.60, 0.70], [0.32, 0.40, 0.50], [0.28, 0.52, 0.61]]
    dice = {("random", seed): RANDOM[seed] for seed in range(3)}
    write_records(plan, dice | {("uncertainty", seed): mine[seed] for seed in range(3)})
    found = conclude(plan, targets=[0.55])
    told = found["strategies"]["uncertainty"]["labels_to_target"][0]
    assert (told["reached"], told["sooner"], told["later"]) == (2, 1, 1)
    assert target_rows(found)[1][3] == "1 of 3"


def test_the_harder_baseline_is_compared_with_where_it_is_simulated(tmp_path: Path) -> None:
    """Three comparisons then: each of the two with random, and uncertainty with foreground_random."""
    plan = imagine_plan(tmp_path, strategies=("random", "uncertainty", "foreground_random"))
    ahead = {"random": 0.0, "uncertainty": 0.1, "foreground_random": 0.2}
    dice = {
        (name, seed): [RANDOM[seed][0], *(each + more + 0.001 * seed * more for each in RANDOM[seed][1:])]
        for name, more in ahead.items()
        for seed in range(3)
    }
    write_records(plan, dice)
    found = conclude(plan)
    assert len(found["verdicts"]) == 3
    told = found["strategies"]["uncertainty"]
    assert told["against_random"]["text"].startswith("uncertainty beats random: ")
    assert told["against_random"]["comparisons"] == 3
    assert told["against_foreground_random"]["text"].startswith(
        "uncertainty does not beat foreground_random, it is worse: "
    )
    assert "against_foreground_random" not in found["strategies"]["foreground_random"]
    assert escape(told["against_foreground_random"]["text"]) in draw_page(found, title="Simulation")
    jsonschema.validate(json.loads(json.dumps(found)), SCHEMA)


def test_larger_lesions_are_told_as_more_work(tmp_path: Path) -> None:
    """Labels are not hours."""
    found = results(tmp_path, [0.1, 0.1, 0.1])
    found["strategies"]["uncertainty"]["effort"] = {"pixels": 2400.5, "parts": 1.25}
    assert effort_rows(found) == [["random", "9", "× 1.00", "1.00"], ["uncertainty", "2,400", "× 266.72", "1.25"]]


def test_a_curve_that_does_not_rise_is_warned_of(tmp_path: Path) -> None:
    """Where labels buy nothing no choice of them can."""
    plan = imagine_plan(tmp_path)
    write_records(
        plan, {(name, seed): [0.5, 0.52, 0.49 + 0.01 * seed] for name in plan.strategies for seed in range(3)}
    )
    told = conclude(plan)["warnings"]
    assert told[0].startswith("random's Dice does not surely rise from 4 to 12 labels (+0.0000, ")


def test_few_seeds_few_test_images_and_a_pool_that_ends_are_warned_of(tmp_path: Path) -> None:
    """All make curves say less than they seem to."""
    few = results(tmp_path, [0.1, 0.1])
    assert "2 seeds say little" in few["warnings"][0]
    assert "2 seeds say little" in draw_page(few, title="Simulation")
    assert results(tmp_path, [0.1, 0.1, 0.1])["warnings"] == []
    nearly = results(tmp_path, [0.1, 0.1, 0.1], pool=13)
    assert "the last round has 12 of the pool's 13 images (92%)" in nearly["warnings"][0]
    small = results(tmp_path, [0.1, 0.1, 0.1], test=19)
    assert "19 test images in 19 groups say little of others" in small["warnings"][0]


def test_results_are_as_their_schema_says(tmp_path: Path) -> None:
    """With and without a verdict, a missing figure and a target that is not reached; and it is JSON."""
    for lead in ([0.1, 0.11, 0.12], [0.1]):
        found = results(tmp_path, lead)
        files = write_report(tmp_path / "report", found, title="Simulation")
        assert [path.name for path in files] == ["results.json", "curves.png", "curves.html"]
        jsonschema.validate(json.loads(files[0].read_text()), SCHEMA)
        assert files[1].read_bytes().startswith(b"\x89PNG")


def test_a_page_needs_nothing_else_and_runs_nothing(tmp_path: Path) -> None:
    """No address, no script; a strategy's name is shown as it is."""
    page = draw_page(results(tmp_path, [0.1, 0.1, 0.1]), title="<script>alert(1)</script>")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert page.count("<svg") == 4


def test_a_round_that_is_missing_is_named(tmp_path: Path) -> None:
    """Nothing is concluded from half a simulation."""
    plan = imagine_plan(tmp_path)
    write_records(plan, {(name, seed): RANDOM[seed] for name in plan.strategies for seed in range(3)})
    steps = [step for step in plan.steps() if step.number == 2 and step.seed == 1]
    plan.record(steps[0]).unlink()
    with pytest.raises(SimulationError, match="seed 1, random, round 2 is not finished"):
        conclude(plan)
