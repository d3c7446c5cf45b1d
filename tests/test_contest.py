"""Champion against challenger: fair images, common labels, and what publishing makes of the gate's decision."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pool_fixture import add_label, add_model, add_project, add_task
from registry_fixture import small_weights
from sqlalchemy import select

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Event, Model, Project, Round, Snapshot
from maskloop_learner.pool.snapshot import Item, Manifest, freeze_snapshot, load_manifest
from maskloop_learner.settings import Settings
from maskloop_learner.train.answers import Answer, calibration_errors, report_answers
from maskloop_learner.train.calibration import Band
from maskloop_learner.train.examination import Examination
from maskloop_learner.train.gate import Decision, Outcome
from maskloop_learner.train.lineage import WARM_FROM, find_learnt, find_seen
from maskloop_learner.train.registry import ensure_version, roll_back, set_champion
from maskloop_queue.contest import find_rival, pair_answers, pair_errors, rules_of
from maskloop_queue.plan import Plan
from maskloop_queue.publication import publish
from maskloop_queue.rounds import run
from maskloop_queue.triggers import request_training, start_due_round


def item(image: str, split: str, **more: Any) -> Item:
    made = Item(label_id=1, task_id=1, ls_task=1, name=image, image=image, masks={}, split=split)
    made.update(more)  # type: ignore[typeddict-item]
    return made


def manifest(*items: Item) -> Manifest:
    return Manifest(project=1, labels=["Tumor"], prompts={}, validation=[], items=list(items))


def add_snapshot(pool: Pool, project_id: int, model_id: int, *items: Item) -> None:
    """Let a model have learnt from these."""
    digest = pool.store.put("manifests", json.dumps(manifest(*items)).encode())
    with pool.write() as session:
        snapshot = Snapshot(project_id=project_id, digest=digest)
        session.add(snapshot)
        session.flush()
        session.get_one(Model, model_id).snapshot_id = snapshot.id


def test_images_that_the_champion_has_learnt_from_are_known(pool: Pool) -> None:
    """By image, by the group of then or of today, and through a warm start; what it was validated on is none."""
    project = add_project(pool)
    first, second = add_model(pool, project), add_model(pool, project, b"second")
    add_snapshot(pool, project, first, item("a", "train"), item("b", "train", group="Eve"), item("v", "validation"))
    add_snapshot(pool, project, second, item("c", "train"))
    today = manifest(item("a", "train", group="Ann"))
    learnt = find_learnt(pool, first, today)
    found = {name: learnt.has(item(name, "validation")) for name in "abvc"}
    assert found == {"a": True, "b": True, "v": False, "c": False}
    assert learnt.has(item("x", "validation", group="Eve"))
    assert learnt.has(item("y", "validation", group="Ann"))
    assert not learnt.has(item("z", "validation", group="Bob"))
    assert find_seen(pool, first).has(item("v", "validation"))
    assert not find_learnt(pool, second, today).has(item("a", "validation"))
    with pool.write() as session:
        session.get_one(Model, second).config = {WARM_FROM: first}
        session.get_one(Model, first).config = {WARM_FROM: second}
    assert find_learnt(pool, second, today).has(item("a", "validation"))


def answer(place: int, dice: float, sure: float, *, label: str = "Tumor") -> Answer:
    """One whose pixels, half of them foreground, say `sure` or 1 - `sure`."""
    truth = np.arange(40) % 2 == 0
    band = Band(np.where(truth, sure, 1 - sure), np.full(40, 0.5), truth)
    return Answer(example=place, label=label, area=0.2, dice=dice, uncertainty=0.1 * place, band=band)


def test_answers_are_paired_by_image_and_label() -> None:
    items = [item("a", "validation", group="Ann", source="scanner 1"), item("b", "validation")]
    old = [answer(0, 0.5, 0.9), answer(1, 0.6, 0.9)]
    new = [answer(0, 0.7, 0.6), answer(1, 0.8, 0.6)]
    first, second = pair_answers(items, old, new)
    assert (first.image, first.group, first.source, first.area) == ("a", "Ann", "scanner 1", 0.2)
    assert (second.group, second.source) == ("b", "")
    assert (first.champion, first.challenger, second.champion, second.challenger) == (0.5, 0.7, 0.6, 0.8)
    # Pixels that say 0.9 and are always right are off by 0.1.
    assert pair_errors(old, new) == {"Tumor": {"champion": pytest.approx(0.1), "challenger": pytest.approx(0.4)}}
    both = [*new, answer(0, 0.5, 0.9, label="Cyst")]
    assert calibration_errors(both) == {label: each.ece for label, each in report_answers(both, temperature=1).items()}


def test_the_gate_follows_the_settings(settings: Settings) -> None:
    """The defaults of both are the same, so that what is simulated is what is done."""
    rules = rules_of(Settings(home=Path("/nowhere")))
    assert rules == type(rules)()
    settings.gate_mode, settings.gate_margin, settings.gate_allow_few = "shadow", 0.2, True
    changed = rules_of(settings)
    assert (changed.shadow, changed.margin, changed.allow_few) == (True, 0.2, True)


class Stage:
    """A champion, an open round on two labels, and a decision to publish."""

    def __init__(self, pool: Pool, settings: Settings) -> None:
        self.pool, self.settings = pool, settings
        self.project = add_project(pool)
        for number in (1, 2):
            add_label(pool, add_task(pool, self.project, number))
        self.models = [add_model(pool, self.project, bytes([n])) for n in (1, 2)]
        for fence, model_id in enumerate(self.models):
            with pool.write() as session:
                project, model = session.get_one(Project, self.project), session.get_one(Model, model_id)
                version = ensure_version(session, project, model, settings)
                set_champion(
                    session, project_id=self.project, model_id=model_id, version_id=version, fence=fence, by="test"
                )

    def publish(self, outcome: Outcome, *, fence: int | None = None) -> Round:
        """A round on the labels of now that ends with this outcome."""
        snapshot = freeze_snapshot(self.pool, self.project, share=0.5)
        with self.pool.write() as session:
            row = Round(project_id=self.project, snapshot_id=snapshot, cause="cli", state="running", holder="h 1 p t")
            session.add(row)
            session.flush()
            found, round_id = load_manifest(self.pool, session.get_one(Snapshot, snapshot)), row.id
        plan = Plan(round_id, self.project, snapshot, found, self.settings.home, "h 1 p t")
        rival = find_rival(self.pool, self.project)
        assert rival is not None
        publish(
            self.pool,
            plan,
            self.settings,
            small_weights(round_id),
            Decision(outcome=outcome, reason="the gate's words"),
            Examination(),
            fence=rival.fence if fence is None else fence,
            parent=rival.model.id,
        )
        with self.pool.read() as session:
            return session.get_one(Round, round_id)

    def champion(self) -> Champion:
        with self.pool.read() as session:
            return session.get_one(Champion, self.project)

    def roll_back(self) -> None:
        with self.pool.write() as session:
            roll_back(session, session.get_one(Project, self.project), self.settings, by="a person")


@pytest.fixture
def stage(pool: Pool, settings: Settings) -> Stage:
    return Stage(pool, settings)


@pytest.mark.parametrize(("outcome", "state"), [("promote", "promoted"), ("shadow", "shadow"), ("reject", "rejected")])
def test_a_decision_is_kept_in_registry_round_and_log(stage: Stage, outcome: Outcome, state: str) -> None:
    """With who took it; only a promoted model serves, only one in shadow waits."""
    ended, champion = stage.publish(outcome), stage.champion()
    assert (ended.state, ended.reason) == (state, "the gate's words")
    assert ended.decision["by"]["who"] == "gate"
    assert ended.decision["by"]["round"] == ended.id
    with stage.pool.read() as session:
        model = session.get_one(Model, ended.model_id)
        event = session.scalars(select(Event).where(Event.kind == f"round.{state}")).one()
    assert model.metrics["gate"] == event.data["gate"] == ended.decision
    assert Decision.from_dict(ended.decision).outcome == outcome
    assert champion.model_id == (model.id if outcome == "promote" else stage.models[1])
    assert champion.challenger_id == (model.id if outcome == "shadow" else None)


def test_the_newest_model_in_shadow_waits_and_a_promotion_ends_it(stage: Stage) -> None:
    first, second = stage.publish("shadow"), stage.publish("shadow")
    assert stage.champion().challenger_id == second.model_id != first.model_id
    assert stage.publish("reject").state == "rejected"
    assert stage.champion().challenger_id == second.model_id
    stage.publish("promote")
    assert (stage.champion().challenger_id, stage.champion().challenger_since) == (None, None)
    with stage.pool.read() as session:
        kinds = [event.kind for event in session.scalars(select(Event).where(Event.kind.startswith("shadow.")))]
    assert kinds == ["shadow.begun", "shadow.ended", "shadow.begun", "shadow.ended"]


@pytest.mark.parametrize("outcome", ["promote", "shadow"])
def test_a_rollback_holds_until_there_are_new_labels(stage: Stage, outcome: Outcome) -> None:
    """A person may train again on the same labels as often as they like: only a new label releases the pin."""
    stage.roll_back()
    held = stage.publish(outcome)
    assert held.state == "rejected"
    assert "a person pinned the champion; only labels from then on, or a person, release it" in str(held.reason)
    assert (stage.champion().model_id, stage.champion().pinned) == (stage.models[0], True)
    add_label(stage.pool, add_task(stage.pool, stage.project, 3))
    released = stage.publish("promote")
    assert released.state == "promoted"
    assert (stage.champion().model_id, stage.champion().pinned) == (released.model_id, False)


@pytest.mark.parametrize("outcome", ["promote", "shadow"])
def test_a_decision_about_another_champion_is_none(stage: Stage, outcome: Outcome) -> None:
    ended = stage.publish(outcome, fence=1)
    assert ended.state == "rejected"
    assert "fence is no longer 1" in str(ended.reason)
    assert stage.champion().challenger_id is None


def test_few_images_wait_and_moved_ones_are_left_out(pool: Pool, settings: Settings) -> None:
    """Two real rounds: the first model serves, the second waits; an image that the first has learnt from and that
    validates now judges neither."""
    settings.train_steps, settings.train_batch, settings.samples, settings.calibration_images = 1, 2, 1, 0
    settings.gate_margin = 0.9
    project = add_project(pool)
    for number in range(1, 5):
        add_label(pool, add_task(pool, project, number))

    def train() -> Round:
        request_training(pool, project, cause="cli")
        round_id = start_due_round(pool, project, settings)
        assert round_id is not None
        run(pool, round_id, settings, lambda progress: None, lambda: False)
        with pool.read() as session:
            return session.get_one(Round, round_id)

    first = train()
    assert (first.state, first.decision["images"]) == ("promoted", 1)
    with pool.read() as session:
        seen = load_manifest(pool, session.get_one(Snapshot, first.snapshot_id))
    moved = [each["image"] for each in seen["items"] if each["split"] == "train"][:1]
    # An earlier release moved images: this one was learnt from and validates now.
    digest = pool.store.put(
        "manifests", json.dumps(seen | {"validation": sorted([*seen["validation"], *moved])}).encode()
    )
    with pool.write() as session:
        session.add(Snapshot(project_id=project, digest=digest))
    second = train()
    assert (second.state, second.decision["images"], second.decision["left_out"]) == ("shadow", 1, 1)
    assert "on 1 validation images; fewer than 30 images show nothing: it waits for a person" in str(second.reason)
    assert second.decision["champion"] is not None
    assert {row["kind"] for row in second.decision["slices"]} >= {"label", "size"}
    assert second.decision["calibration"]["Tumor"].keys() == {"champion", "challenger"}
    with pool.read() as session:
        champion, model = session.get_one(Champion, project), session.get_one(Model, second.model_id)
    assert (champion.model_id, champion.challenger_id) == (first.model_id, model.id)
    assert model.config["temperature"] == model.metrics["temperature"]
