"""`maskloop models list|show|diff|promote|rollback|release|verify|prune`, typed as a person would, on a real pool."""

import json
from datetime import timedelta
from typing import Any

import pytest
from command_fixture import Command
from pool_fixture import add_label, add_project, add_task
from registry_fixture import damage, register, small_weights, weights_file
from sqlalchemy import select

from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Event, Model, Project, Round, utcnow
from maskloop_learner.pool.snapshot import freeze_snapshot
from maskloop_learner.settings import Settings

SLICES = [
    {
        "kind": "label",
        "name": "Tumor",
        "images": 30,
        "champion": 0.5,
        "challenger": 0.61,
        "counted": True,
        "passed": True,
    },
    {
        "kind": "size",
        "name": "small",
        "images": 9,
        "champion": 0.5,
        "challenger": 0.4,
        "counted": False,
        "passed": True,
    },
]


@pytest.fixture
def project(pool: Pool, settings: Settings) -> int:
    """A project with three models, of three, four and four labels; the last one serves."""
    project = add_project(pool)
    for number in range(3):
        while_labelled(pool, project, 3 if not number else 4)
        snapshot = freeze_snapshot(pool, project, share=0.3)
        dice = {"Tumor": {"challenger": 0.5 + number / 10}}
        model = register(
            pool,
            project,
            small_weights(number),
            settings=settings,
            snapshot_id=snapshot,
            config={"seed": number, "steps": 10, "temperature": 1.25},
            metrics={"validation": dice, "decision": f"reason {number}", "calibration": {"Tumor": {"ece": 0.03}}},
        )
        with pool.write() as session:
            decision = {"outcome": "promote", "slices": SLICES}
            ended = Round(project_id=project, snapshot_id=snapshot, cause="labels", state="promoted", model_id=model)
            ended.decision, ended.reason, ended.ended_at = decision, f"reason {number}", utcnow()
            session.add(ended)
    return project


def while_labelled(pool: Pool, project: int, count: int) -> None:
    """See that so many tasks are labelled."""
    with pool.read() as session:
        there = len(session.scalars(select(Model)).all())
    for ls_id in range(1, count + 1) if not there else range(count, count + 1) if there == 1 else ():
        add_label(pool, add_task(pool, project, ls_id))


def parse(out: str) -> Any:
    """The JSON document that a command printed."""
    return json.loads(out)


def champion_of(pool: Pool, project: int) -> Champion:
    """The row as it is now."""
    with pool.read() as session:
        return session.get_one(Champion, project)


def test_the_list_tells_what_each_is(command: Command, project: int, pool: Pool) -> None:
    with pool.write() as session:
        session.get_one(Model, 1).pruned_at = utcnow()
    told = parse(command("models", "list", "--json")[1])
    assert told == parse(command("models", "--json")[1])
    assert [(item["model"], item["champion"], item["is"]) for item in told] == [
        (1, False, ["pruned"]),
        (2, False, ["previous"]),
        (3, True, ["champion"]),
    ]
    assert [item["dice"]["Tumor"] for item in told] == [0.5, 0.6, 0.7]
    code, out, _ = command("models", "list")
    assert (code, "champion" in out, "pruned" in out) == (0, True, True)


def test_a_model_is_shown_with_its_past(command: Command, project: int) -> None:
    told = parse(command("models", "show", "--json")[1])
    assert (told["model"], told["parents"], told["is"]) == (3, [2, 1], ["champion"])
    assert told["snapshot"] | {"digest": ""} == {
        "id": 3,
        "digest": "",
        "labels": 4,
        "train": 3,
        "validation": 1,
        "unknown": None,
    }
    assert told["decision"]["slices"] == SLICES
    assert [change["fence"] for change in told["history"]] == [3]
    assert [version["predictions"] for version in told["versions"]] == [0]
    assert told["config"]["settings"]["train_seed"] == 0
    code, out, _ = command("models", "show", "2")
    assert code == 0
    for words in (
        "Model 2 of project 7: previous",
        "comes after    1",
        "label Tumor",
        "+0.110",
        "too few to count",
        "Dice 0.600",
        "ECE 0.030",
        "replaced by model 3 by round 1 (fence 3)",
        "3 images, 1 kept for validation",
    ):
        assert words in out, out


def test_two_models_are_compared(command: Command, project: int) -> None:
    told = parse(command("models", "diff", "1", "2", "--json")[1])
    assert told["config"] == {"seed": [0, 1]}
    assert told["metrics"] == {"validation.Tumor.challenger": [0.5, 0.6]}
    assert told["about"].keys() == {"weights", "parent"}
    assert (told["snapshot"]["added"], told["snapshot"]["removed"]) == (["4.png"], [])
    code, out, _ = command("models", "diff", "1", "champion")
    assert code == 0
    assert "metrics validation.Tumor.challenger: 0.5 -> 0.7  (+0.2)" in out
    assert "images added: 1 (4.png)" in out
    told = parse(command("models", "diff", "2", "3", "--json")[1])
    assert told["snapshot"] == {"added": [], "removed": [], "changed": [], "unknown": None}


def test_promote_rollback_and_release(command: Command, project: int, pool: Pool) -> None:
    """Without a Redis nobody can be told; the change is made all the same, and says by whom and why."""
    code, out, err = command("models", "promote", "1", "--reason", "the others blur")
    assert code == 0, err
    row = champion_of(pool, project)
    assert (row.model_id, row.previous_model_id, row.pinned, row.fence) == (1, 3, True, 4)
    assert row.version_id in out
    assert "as soon as `maskloop up`" in out
    assert "4 images" not in out
    with pool.read() as session:
        last = session.scalars(select(Event).where(Event.kind == "champion.changed").order_by(Event.id.desc())).first()
    assert last is not None
    assert last.data["reason"] == "the others blur"
    assert last.data["by"].endswith("(promote command)")
    assert "already" in command("models", "promote", "1")[1]
    assert "no longer pinned" in command("models", "release")[1]
    assert "was not pinned" in command("models", "release")[1]
    told = parse(command("models", "rollback", "--to", "2", "--json")[1])
    assert (told["model"], told["served_after"]) == (2, None)
    assert parse(command("rollback", "--json")[1])["model"] == 1
    assert champion_of(pool, project).fence == 6


def test_what_cannot_be_done_is_one_line_with_the_cure(command: Command, project: int, pool: Pool) -> None:
    other = add_project(pool, ls_id=8)
    foreign = str(register(pool, other, small_weights(7)))
    damage(weights_file(pool, 2), "altered")
    register(pool, project, small_weights(9), serve=False)
    here = ("--project", "7")
    for words, why in (
        (("promote", "99", *here), "has no model 99"),
        (("promote", foreign, *here), f"has no model {foreign}"),
        (("promote", "99999999999999999999", *here), "named by its number"),
        (("promote", "newest", *here), "got 'newest'"),
        (("promote", "2", *here), "model 2 is not whole"),
        (("show", "x", *here), "maskloop models"),
        (("rollback", "--to", "5", *here), "maskloop models promote 5"),
        (("rollback", "--to", "3", *here), "champion already"),
        (("rollback", *here), "model 2 cannot serve"),
        (("prune", "--keep", "0", "--json", *here), "--yes"),
        (("list",), "choose one with --project"),
    ):
        code, _, err = command("models", *words)
        assert (code, err.count("\n")) == (1, 1), (words, err)
        assert why in err, (words, err)
    assert champion_of(pool, project).fence == 3


@pytest.mark.parametrize("how", ["truncated", "altered", "removed"])
def test_verify_names_what_is_wrong(command: Command, project: int, pool: Pool, how: str) -> None:
    code, out, _ = command("models", "verify")
    assert (code, "3 models were read: all is what it was." in out) == (0, True)
    damage(weights_file(pool, 1), how)
    code, out, _ = command("models", "verify", "--json")
    told = parse(out)
    assert (code, told["whole"]) == (1, False)
    assert [(found["model"], found["part"]) for found in told["findings"]] == [(1, "weights")]
    assert "maskloop models import" in told["findings"][0]["fix"]
    assert command("models", "verify", "2")[0] == 0
    assert "broken" in command("models")[1]
    pool.store.put("weights", small_weights(0))
    assert command("models", "verify", "1")[0] == 0
    assert "broken" not in command("models")[1]


def test_verify_names_a_base_that_is_missing(command: Command, pool: Pool) -> None:
    """The weights are whole, the frozen towers they stand on are not here."""
    project = add_project(pool)
    register(pool, project, small_weights(1, backbone="clip-vit-b16", base="a" * 64))
    code, out, _ = command("models", "verify")
    assert code == 1
    assert "maskloop models fetch clip-vit-b16" in out


def test_verify_repairs_manifests_of_earlier_releases(command: Command, project: int, pool: Pool) -> None:
    with pool.write() as session:
        session.get_one(Model, 3).manifest_digest = None
    code, out, _ = command("models", "verify", "3")
    assert (code, "maskloop models verify 3 --repair" in out) == (0, True)
    assert command("models", "verify", "--repair")[0] == 0
    assert "--repair" not in command("models", "verify", "3")[1]


def test_prune_keeps_what_serves_and_what_would(command: Command, project: int, pool: Pool) -> None:
    """Champion, previous and shadow stay whatever is asked; a file that two models have stays with the other."""
    twin = register(pool, project, small_weights(0), serve=False)
    shadow = register(pool, project, small_weights(20), serve=False)
    spare = register(pool, project, small_weights(21), serve=False)
    other = register(pool, add_project(pool, ls_id=8), small_weights(21), serve=False)
    with pool.write() as session:
        session.get_one(Champion, project).challenger_id = shadow
    here = ("--project", "7")
    assert parse(command("models", "prune", "--keep", "0", *here, "--dry-run", "--json")[1])["would"] == [
        1,
        twin,
        spare,
    ]
    assert parse(command("models", "prune", "--keep", "3", *here, "--dry-run", "--json")[1])["would"] == [1]
    old = ("--keep", "0", "--older-than", "1")
    assert parse(command("models", "prune", *old, *here, "--dry-run", "--json")[1])["would"] == []
    with pool.write() as session:
        session.get_one(Model, 1).created_at = utcnow() - timedelta(days=2)
    told = parse(command("models", "prune", *old, *here, "--yes", "--json")[1])
    assert told == {"pruned": [1], "files": 0}
    assert weights_file(pool, twin).exists(), "the same file"
    told = parse(command("models", "prune", "--keep", "0", *here, "--yes", "--json")[1])
    assert told == {"pruned": [twin, spare], "files": 1}
    assert not weights_file(pool, 1).exists()
    assert weights_file(pool, other).exists()
    assert parse(command("models", "show", "1", *here, "--json")[1])["dice"] == {"Tumor": 0.5}
    assert command("models", "verify", *here)[0] == 1, "model 1's date is another than in its manifest"
    code, _, err = command("models", "promote", "1", *here)
    assert (code, "was pruned" in err) == (1, True)
    with pool.write() as session:
        session.get_one(Project, project).served_version = "none"
    assert parse(command("models", "prune", "--keep", "0", *here, "--yes", "--json")[1])["pruned"] == []
