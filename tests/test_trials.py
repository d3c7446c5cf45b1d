"""What a round makes of a snapshot: prompts and known labels of each image, nothing located in validation."""

from typing import Any

from pool_fixture import add_label, add_project, add_task
from sqlalchemy import select

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project, Round, Snapshot
from maskloop_learner.pool.snapshot import freeze_snapshot, load_manifest
from maskloop_learner.settings import Settings
from maskloop_queue.rounds import run
from maskloop_queue.trials import Trial, load_examples, prompts_of
from maskloop_queue.triggers import request_training, start_due_round

RICH = "[{size} ]{finding} in a breast ultrasound"
PLAIN = "tumor in a breast ultrasound"


def manifest_of(**changes: Any) -> Any:
    return {
        "project": 1,
        "labels": ["Tumor", "Cyst"],
        "prompts": {"Tumor": RICH},
        "validation": [],
        "items": [],
    } | changes


def test_training_asks_by_the_images_own_prompt_and_by_less() -> None:
    told = {"Tumor": {"text": "small tumor at the top", "source": "sheet", "plain": PLAIN}, "Gone": {"text": "x"}}
    found = prompts_of({"prompts": told, "known": ["Tumor"]}, manifest_of(), "train")
    assert found == {
        "prompts": {"Tumor": "small tumor at the top"},
        "known": frozenset({"Tumor"}),
        "lesser": {"Tumor": (PLAIN, "tumor")},
    }


def test_validation_asks_without_location() -> None:
    told = {"Tumor": {"text": "small tumor at the top", "source": "sheet", "plain": PLAIN}, "Cyst": {"text": "a cyst"}}
    found = prompts_of({"prompts": told}, manifest_of(), "validation")
    assert found == {"prompts": {"Tumor": PLAIN, "Cyst": "a cyst"}, "known": None}


def test_items_of_earlier_snapshots_know_all_labels() -> None:
    """Nor have they prompts; fixed texts have no lesser forms."""
    found = prompts_of({}, manifest_of(prompts={"Tumor": PLAIN, "Cyst": "cyst"}), "train")
    assert found == {"prompts": None, "known": None, "lesser": None}


def test_a_round_renders_the_projects_templates(pool: Pool, settings: Settings) -> None:
    """Weights and validation know the words, never the template's braces; the round ends as any other."""
    settings.train_steps, settings.train_batch, settings.samples, settings.calibration_images = 2, 2, 2, 0
    project = add_project(pool)
    for number in range(1, 4):
        add_label(pool, add_task(pool, project, number))
    with pool.write() as session:
        session.get_one(Project, project).prompts = {"*": RICH, "!*": "no {label} in a breast ultrasound"}
    with pool.read() as session:
        manifest = load_manifest(pool, session.get_one(Snapshot, freeze_snapshot(pool, project, share=0.3)))
    trial = Trial(pool=pool, manifest=manifest, settings=settings, tick=lambda what, done, of: None)
    assert trial._prompts == {"Tumor": PLAIN}
    assert {tuple((e.lesser or {}).get("Tumor", ())) for e in load_examples(pool, manifest, "train")} == {("tumor",)}
    request_training(pool, project, cause="cli")
    round_id = start_due_round(pool, project, settings)
    assert round_id is not None
    run(pool, round_id, settings, lambda progress: None, lambda: False)
    with pool.read() as session:
        assert session.scalars(select(Round.state)).one() == "promoted"
