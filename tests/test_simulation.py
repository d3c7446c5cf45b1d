"""Rounds of a simulation with a real, small training: what they leave, share, survive and refuse."""

import base64
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulate_fixture import LEARNING, PREDICTING, die, imagine_plan, make_plan

from maskloop_learner.pool.looks import Look
from maskloop_learner.pool.masks import decode_mask, encode_mask
from maskloop_learner.select.campaign import first_places, gather_labels, run_step
from maskloop_learner.select.choices import make_candidates, pick, select
from maskloop_learner.select.choosing import ChoosingError
from maskloop_learner.select.oracle import Oracle
from maskloop_learner.select.plan import Plan, SimulationError, Step
from maskloop_learner.select.records import Record, read_record
from maskloop_learner.select.sights import Lessons, Seen
from maskloop_learner.select.simulation import finished, hold, run_grid
from maskloop_learner.train.loop import TrainingCancelled

FIRST = Step(0, "", 0)
NEXT = Step(0, "uncertainty", 1)


def told(plan: Plan, step: Step) -> Record:
    """A record that must be there, without the time that it took."""
    found = read_record(plan, step)
    assert found is not None
    return {**found, "seconds": 0.0}


def seen(place: int, uncertainty: float) -> Seen:
    """An image as a model might see it."""
    return Seen(
        place=place,
        scores={"predictive_entropy": {"mean": uncertainty}},
        shares=(0.1,),
        shown={},
    )


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """A small real plan whose first round and the next one of `uncertainty` are done."""
    made = make_plan(tmp_path_factory.mktemp("simulation"), oracle=Oracle.parse("noisy_boundary:2"))
    for step in (FIRST, NEXT):
        run_step(made, step)
    return made


def test_a_round_leaves_figures_and_choices(plan: Plan) -> None:
    """Dice of every test image, quality over the same ones, a batch for each strategy; no checkpoint."""
    first, second = told(plan, FIRST), told(plan, NEXT)
    assert first["test"].keys() == {plan.subjects[place].name for place in plan.ground.test}
    assert all(0 <= dice <= 1 for dice in first["test"].values())
    assert (first["labels"], second["labels"]) == (2, 4)
    assert first["quality"]["images"] == second["quality"]["images"] == len(plan.ground.test)
    assert first["picks"].keys() == {"random", "uncertainty"}
    assert second["picks"].keys() == {"uncertainty"}
    names = [each["name"] for each in first["picks"]["uncertainty"]]
    assert len(set(names)) == plan.batch
    assert not {plan.subjects[place].name for place in first_places(plan, 0)} & set(names)
    assert all(each["pixels"] > 0 and each["parts"] == 1 for each in first["picks"]["uncertainty"])
    assert list(plan.folder.rglob("*.pt")) == []
    assert finished(plan) == [FIRST, NEXT]


def test_all_strategies_begin_with_the_same_labels(plan: Plan) -> None:
    """Drawn by the same hand; then each adds its own batch."""
    mine, theirs = (gather_labels(plan, Step(0, name, 1)) for name in ("uncertainty", "random"))
    first = gather_labels(plan, FIRST)
    assert set(first) <= set(mine) & set(theirs)
    assert len(mine) == len(theirs) == 4
    for place, masks in first.items():
        assert np.array_equal(masks["disc"], mine[place]["disc"])
        assert np.array_equal(masks["disc"], theirs[place]["disc"])


def test_what_is_learnt_from_is_what_the_oracle_drew(plan: Plan) -> None:
    """Not the truth; kept in the record, so that a later round learns from the same."""
    picks = told(plan, FIRST)["picks"]["uncertainty"]
    labels = gather_labels(plan, NEXT)
    lessons = {example.name: example.masks["disc"] for example in Lessons(plan, labels)}
    for each in picks:
        place = [subject.name for subject in plan.subjects].index(each["name"])
        drawn = decode_mask(base64.b64decode(each["drawn"]["disc"]))
        assert np.array_equal(lessons[each["name"]], drawn)
        assert not np.array_equal(drawn, plan.subjects[place].open()[1]["disc"])


def test_a_round_done_again_gives_the_same_record(plan: Plan, tmp_path: Path) -> None:
    """All chance comes from seeds."""
    again = replace(plan, folder=tmp_path)
    run_step(again, FIRST)
    assert told(again, FIRST) == told(plan, FIRST)


def test_what_was_chosen_stays_when_a_strategy_is_added(plan: Plan, tmp_path: Path) -> None:
    """Another machine may train to other bits: later rounds have learnt from what is on record."""
    more = replace(plan, folder=tmp_path, strategies=(*plan.strategies, "power"))
    kept = told(plan, FIRST) | {"test": dict.fromkeys(told(plan, FIRST)["test"], 0.123), "seconds": 7.0}
    kept["picks"] = {name: picks[::-1] for name, picks in kept["picks"].items()}
    more.record(FIRST).parent.mkdir(parents=True)
    more.record(FIRST).write_text(json.dumps(kept))
    run_step(more, FIRST)
    found = told(more, FIRST)
    assert set(found["picks"]) == set(more.strategies)
    assert {name: found["picks"][name] for name in plan.strategies} == kept["picks"]
    assert found["test"] == kept["test"]


def test_a_round_that_was_stopped_goes_on_as_if_it_had_not_been(plan: Plan, tmp_path: Path) -> None:
    """It stops soon, keeps what was learnt, leaves no record, and ends with the same figures."""
    again = replace(plan, folder=tmp_path)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        # Past the embeddings and into the second step of the training.
        return asked > 25

    with pytest.raises(TrainingCancelled):
        run_step(again, FIRST, should_stop=stop)
    assert read_record(again, FIRST) is None
    assert again.record(FIRST).with_suffix(".pt").exists()
    run_step(again, FIRST)
    assert told(again, FIRST) == told(plan, FIRST)


def test_a_strategy_that_is_added_later_gets_its_first_choice(plan: Plan) -> None:
    """The first round is not finished for it; those of the others stay finished."""
    more = replace(plan, strategies=(*plan.strategies, "power"))
    assert read_record(more, FIRST) is None
    assert read_record(more, NEXT) is not None
    assert plan.determining() == more.determining()


def test_a_record_that_is_damaged_is_made_anew(plan: Plan, tmp_path: Path) -> None:
    """A file cut short by a full disk is as good as none."""
    copy = replace(plan, folder=tmp_path)
    copy.record(FIRST).parent.mkdir(parents=True)
    copy.record(FIRST).write_text(json.dumps(told(plan, FIRST))[:-40])
    assert read_record(copy, FIRST) is None


def test_a_step_without_what_it_builds_on_is_refused(plan: Plan, tmp_path: Path) -> None:
    """Somebody removed a file meanwhile."""
    with pytest.raises(SimulationError, match=r"first\.json is gone while seed 0, uncertainty, round 1 needs it"):
        gather_labels(replace(plan, folder=tmp_path), NEXT)


def test_an_anchored_person_learns_what_the_model_drew(plan: Plan) -> None:
    """What was accepted is in the record and differs from the truth."""
    anchored = replace(plan, oracle=Oracle.parse("anchored:0"))
    rest = [each for each in anchored.ground.pool if each not in first_places(anchored, 0)]
    place = rest[0]
    truth = anchored.subjects[place].open()[1]["disc"]
    shown = np.roll(truth, 1, axis=1)
    left = [
        replace(seen(place, 0.5), shown={"disc": encode_mask(shown)}) if each == place else seen(each, 0.1)
        for each in rest
    ]
    vectors = {each: np.ones(1, np.float32) for each in anchored.ground.pool}
    chosen = pick(anchored, FIRST, "uncertainty", left, vectors)
    by_name = {each["name"]: each for each in chosen}
    drawn = by_name[anchored.subjects[place].name]["drawn"]["disc"]
    assert np.array_equal(decode_mask(base64.b64decode(drawn)), shown)


def test_a_batch_is_whole_where_near_duplicates_are_all_that_is_left(tmp_path: Path) -> None:
    """Budgets must be equal, or curves cannot be compared."""
    plan = imagine_plan(tmp_path, pool=12, batch=4)
    look = Look("0123456789abcdef", "".join(f"{(7 * k) % 256:02x}" for k in range(256)))
    plan = replace(plan, ground=replace(plan.ground, looks=(look,) * len(plan.subjects)))
    left = [seen(place, 0.01 * place) for place in range(4, 12)]
    vectors = {place: np.eye(12, dtype=np.float32)[place] for place in range(12)}
    for strategy in ("uncertainty", "random"):
        picks = select(plan, FIRST, strategy, left, vectors)
        assert len({each.id for each in picks}) == plan.batch


def test_a_strategy_may_rank_by_another_score(tmp_path: Path) -> None:
    """Its name, a colon, and the score; the names of both stand in the reasons."""
    plan = imagine_plan(tmp_path, pool=12, batch=2, random_share=0.0)
    plan = replace(plan, ground=replace(plan.ground, looks=(Look("", ""),) * len(plan.subjects)))
    vectors = {place: np.eye(12, dtype=np.float32)[place] for place in range(12)}
    both = {"mean": 0.5, "boundary_norm": 0.0}
    left = [
        replace(seen(place, 0), scores={"predictive_entropy": both | {"boundary_norm": 1.0 / place}})
        for place in range(4, 12)
    ]
    picks = select(plan, FIRST, "uncertainty:predictive_entropy/boundary_norm", left, vectors)
    assert [each.id for each in picks] == [4, 5]
    assert "boundary_norm" in picks[0].reason


def test_the_last_batch_may_be_all_that_is_left(tmp_path: Path) -> None:
    """Rounds that use the whole pool are what the error for too many of them advises."""
    plan = imagine_plan(tmp_path, pool=12, batch=4)
    plan = replace(plan, ground=replace(plan.ground, looks=(Look("", ""),) * len(plan.subjects)))
    vectors = {place: np.eye(12, dtype=np.float32)[place] for place in range(12)}
    left = [seen(place, 0.01 * place) for place in range(8, 12)]
    for strategy in ("uncertainty", "diverse", "random"):
        picks = select(plan, FIRST, strategy, left, vectors)
        assert sorted(each.id for each in picks) == [8, 9, 10, 11]


def test_a_lesson_keeps_its_group(plan: Plan) -> None:
    """Early stopping holds whole patients out, and pictures that are nearly one belong together."""
    first, second = plan.ground.pool[:2]
    groups = list(plan.ground.groups)
    groups[first], groups[second] = 3, -1
    grouped = replace(plan, ground=replace(plan.ground, groups=tuple(groups)))
    truth = {place: plan.subjects[place].open()[1] for place in (first, second)}
    found = [each.group for each in Lessons(grouped, truth)]
    assert set(found) == {"group 3", plan.subjects[second].name}


def test_candidates_are_the_unlabelled_images_with_all_that_is_known(tmp_path: Path) -> None:
    """In order, with the labelled ones' vectors beside them."""
    plan = imagine_plan(tmp_path, pool=6, first=2, batch=1)
    plan = replace(plan, ground=replace(plan.ground, looks=(Look("", ""),) * len(plan.subjects)))
    vectors = {place: np.eye(6, dtype=np.float32)[place] for place in range(6)}
    found = make_candidates(plan, [seen(4, 0.4), seen(1, 0.1)], vectors, score="predictive_entropy/mean")
    assert found.ids.tolist() == [1, 4]
    assert found.scores.tolist() == [0.1, 0.4]
    assert found.labelled_ids.tolist() == [0, 2, 3, 5]
    assert found.embeddings.argmax(1).tolist() == [1, 4]
    assert found.labelled.argmax(1).tolist() == [0, 2, 3, 5]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch": 50}, "4 first labels and 2 rounds of 50 are 104 images, but the pool has 40.*take smaller batches"),
        ({"rounds": 30}, "take at most 9 rounds"),
        ({"first": 0}, "must be 1 or more"),
        ({"strategies": ("random", "mutual_information")}, "ranks by mutual_information, which is 0 in a single pass"),
        ({"strategies": ("random", "power:variance/mean")}, "ranks by variance, which is 0 in a single pass"),
    ],
)
def test_a_plan_that_cannot_work_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    """Before anything is trained, with what would work."""
    with pytest.raises(SimulationError, match=said):
        imagine_plan(tmp_path, **changes)


def test_an_unknown_strategy_is_refused_with_those_there_are(tmp_path: Path) -> None:
    """Several samples make those that need them possible."""
    with pytest.raises(ChoosingError, match="no strategy 'best'; choose one of uncertainty"):
        imagine_plan(tmp_path, strategies=("random", "best"))
    many = {**PREDICTING, "method": "monte-carlo", "samples": 4}
    assert imagine_plan(tmp_path, strategies=("random", "mutual_information"), predicting=many).rounds == 2


def test_every_step_comes_after_those_it_builds_on(tmp_path: Path) -> None:
    """Each once, and as many as there are trainings: the first round is shared."""
    plan = imagine_plan(tmp_path, seeds=3, rounds=2)
    steps = list(plan.steps())
    assert len(steps) == len(set(steps)) == 3 * (1 + 2 * 2)
    for at, step in enumerate(steps):
        assert set(plan.before(step)) <= set(steps[:at])
    assert len({plan.record(step) for step in steps}) == len(steps)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_file_that_vanishes_meanwhile_is_named(tmp_path: Path) -> None:
    """With the round in which it was missed; the processes end, and what libraries read of threads is as before."""
    made = make_plan(tmp_path)
    for path in (tmp_path / "masks").glob("*.png"):
        path.unlink()
    before = dict(os.environ)
    with pytest.raises(SimulationError, match=r"^seed 0, first labels, round 0: .*No such file"):
        run_grid(made, workers=1)
    assert finished(made) == []
    assert dict(os.environ) == before


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_process_that_is_killed_is_told_with_what_to_do(tmp_path: Path) -> None:
    """As the kernel does when memory runs out."""
    with pytest.raises(SimulationError, match=r"was killed, perhaps for want of memory; run the same command again"):
        run_grid(make_plan(tmp_path), workers=1, prepare=die)


def test_two_simulations_do_not_share_a_folder(tmp_path: Path) -> None:
    """The second is told so; afterwards the folder is free."""
    again = hold(tmp_path / "out")
    with hold(tmp_path / "out"), pytest.raises(SimulationError, match="another simulation works in"), again:
        pass
    with hold(tmp_path / "out"):
        pass


def test_other_settings_are_another_simulation(tmp_path: Path) -> None:
    """All that changes a figure is among what a folder must share; seeds and strategies may be added."""
    plan = imagine_plan(tmp_path)
    changes: dict[str, Any] = {
        "batch": 5,
        "rounds": 3,
        "first": 5,
        "random_share": 0.0,
        "oracle": Oracle.parse("missing_small"),
        "learning": {**LEARNING, "steps": 3},
        "predicting": {**PREDICTING, "threshold": 0.4},
        "prompts": {"disc": "dark disc"},
        "subjects": plan.subjects[::-1],
    }
    for name, value in changes.items():
        assert replace(plan, **{name: value}).determining() != plan.determining(), name
    assert replace(plan, seeds=9, strategies=("random",), device="cuda").determining() == plan.determining()
