"""`maskloop evaluate`, the protocols and `lint-dataset` with a real model on real folders; how they fail."""

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from dataset_files import draw_disc, write_dataset, write_sheets
from PIL import Image as Pillow
from pool_fixture import add_project

import maskloop_backend.cli as cli
from maskloop_backend.cli import evaluating
from maskloop_learner.model.backbones import find_backbone
from maskloop_learner.model.checkpoint import load_weights, save_weights
from maskloop_learner.model.medclipseg import MedCLIPSeg
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Champion, Model, PredictionVersion, Project
from maskloop_learner.settings import get_settings

BUSI = Path(__file__).parents[2] / "shared" / "data" / "busi"
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`maskloop ...` with a home that does not exist: exit code, stdout, stderr."""
    monkeypatch.setenv("MASKLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MASKLOOP_SAMPLES", "2")
    monkeypatch.setenv("MASKLOOP_DEVICE", "cpu")
    monkeypatch.setenv("MASKLOOP_TRAINING_THREADS", "1")
    monkeypatch.setenv("MASKLOOP_GPU_THREADS", "1")
    monkeypatch.delenv("MASKLOOP_REDIS_URL", raising=False)
    get_settings.cache_clear()
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    evaluating.register(app)
    monkeypatch.setattr(cli, "app", app)

    def call(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["maskloop", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained nano, saved as a training would."""
    path = tmp_path_factory.mktemp("weights") / "nano.safetensors"
    meta = {"labels": ["tumor"], "prompts": {"tumor": "bright disc"}}
    path.write_bytes(save_weights(MedCLIPSeg(find_backbone("nano"), seed=1), meta=meta))
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three images with masks of the label `tumor`; one mask is a PNG beside a JPEG image."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    (masks / "tumor").mkdir(parents=True)
    images.mkdir()
    for number, suffix in enumerate((".png", ".jpg", ".png")):
        image, mask = draw_disc(number, radius=9)
        image.save(images / f"{number}{suffix}")
        mask.save(masks / "tumor" / f"{number}.png")
    (images / ".hidden").write_bytes(b"")
    return images, masks


def parse(out: str) -> Any:
    """The JSON document that a command printed."""
    return json.loads(out)


def test_a_weights_file_needs_no_project(command: Command, weights: Path, folders: tuple[Path, Path]) -> None:
    """No pool is opened, no home is made; every figure has its range; the same call gives the same figures."""
    words = ("evaluate", "--images", folders[0], "--masks", folders[1], "--weights", weights)
    code, out, err = command(*words, "--json")
    assert code == 0, err
    found = parse(out)
    assert (found["images"], found["skipped"], found["files"]) == (3, [], [])
    figures = found["labels"]["tumor"]
    for name in ("dice", "iou", "nsd"):
        assert 0 <= figures[name]["mean"] <= 1
    assert found["dice"] == {"tumor": figures["dice"]["mean"]}
    assert 0 <= figures["calibration"]["ece"] <= 1
    assert found["about"]["samples"] == 2
    assert not get_settings().home.exists()
    assert parse(command(*words, "--json")[1]) == found
    code, out, _ = command(*words)
    assert code == 0
    assert f"tumor: Dice {figures['dice']['mean']:.3f}" in out


def test_out_leaves_tables_and_pictures(
    command: Command, weights: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """Their figures are those that are printed."""
    out_folder = tmp_path / "out"
    words = ("--images", folders[0], "--masks", folders[1], "--weights", weights, "--out", out_folder)
    code, out, err = command("evaluate", *words, "--json")
    assert code == 0, err
    names = ["results.csv", "summary.json", "contact.png", "contact.html"]
    assert [Path(path).name for path in parse(out)["files"]] == names
    rows = list(csv.DictReader(io.StringIO((out_folder / "results.csv").read_text())))
    assert [row["name"] for row in rows] == ["0.png", "1.jpg", "2.png"]
    mean = sum(float(row["dice"]) for row in rows) / 3
    assert parse(out)["dice"]["tumor"] == pytest.approx(mean)
    written = json.loads((out_folder / "summary.json").read_text())
    assert written["labels"] == parse(out)["labels"]
    assert written["about"]["prompts"] == {"tumor": "bright disc"}
    with Pillow.open(out_folder / "contact.png") as picture:
        assert picture.width > 1000
    assert (out_folder / "contact.html").read_text().count("<article") == 3


def test_only_limit_and_prompt(command: Command, weights: Path, folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Some of the images, and other words for the label."""
    words = ("evaluate", "--images", folders[0], "--masks", folders[1], "--weights", weights, "--json")
    names = tmp_path / "names.txt"
    names.write_text("2.png\n\n0.png\n")
    assert parse(command(*words, "--only", names)[1])["images"] == 2
    assert parse(command(*words, "--limit", "1")[1])["images"] == 1
    asked = parse(command(*words, "--prompt", "tumor=dark square")[1])
    assert asked["about"]["prompts"] == {"tumor": "dark square"}
    assert asked["labels"] != parse(command(*words)[1])["labels"]


def test_a_data_set_is_asked_for_row_by_row(command: Command, weights: Path, tmp_path: Path) -> None:
    """Each image's own prompt, of the variant that is wanted; rows without files are told and skipped."""
    root = write_dataset(tmp_path / "discs")
    (root / "Test_Folder" / "img" / "test 1.png").unlink()
    out_folder = tmp_path / "out"
    code, out, err = command("evaluate", "--dataset", root, "--weights", weights, "--out", out_folder, "--json")
    assert code == 0, err
    found = parse(out)
    assert (found["images"], found["about"]["skipped"]) == (2, 1)
    assert found["skipped"][0]["kind"] == "no-image"
    assert "there is no image 'test 1.png'" in err
    rows = list(csv.DictReader(io.StringIO((out_folder / "results.csv").read_text())))
    assert [row["prompt"] for row in rows] == ["One round tumor at the left.", "No tumor."]
    assert found["labels"]["tumor"]["empty"]["images"] == 1
    told = parse(
        command("evaluate", "--dataset", root, "--weights", weights, "--prompts", "contradictory", "--json")[1]
    )
    assert told["about"]["prompts"] == "contradictory"
    words = ("evaluate", "--dataset", root, "--split", "train", "--weights", weights, "--label", "x")
    assert "x: Dice" in command(*words, "--prompt", "x=anything")[1]


def test_an_image_that_cannot_be_read_is_skipped(command: Command, weights: Path, tmp_path: Path) -> None:
    """One damaged file does not spoil an hour's work; when none can be read it is an error."""
    root = write_dataset(tmp_path / "discs")
    images = root / "Test_Folder" / "img"
    (images / "test 0.png").write_bytes(b"no picture")
    words = ("evaluate", "--dataset", root, "--weights", weights)
    code, out, err = command(*words, "--json")
    assert (code, parse(out)["images"], parse(out)["skipped"][0]["kind"]) == (0, 2, "unreadable")
    assert "test 0.png: the file is no image" in err
    for image in images.iterdir():
        image.write_bytes(b"no picture")
    code, _, err = command(*words)
    assert code == 1
    assert "none of the images could be read" in err


def add_champion(pool: Pool, weights: Path) -> int:
    """A project whose champion is the weights file; its Label Studio id is 7."""
    project = add_project(pool)
    with pool.write() as session:
        digest = pool.store.put("weights", weights.read_bytes())
        model = Model(project_id=project, backbone="nano", labels=["tumor"], weights_digest=digest, metrics={})
        session.add(model)
        session.flush()
        session.add(PredictionVersion(id="v", project_id=project, model_id=model.id, config={}))
        session.flush()
        session.add(Champion(project_id=project, model_id=model.id, version_id="v", fence=1, changed_by="test"))
    return project


def test_a_projects_champion_and_an_earlier_model(
    command: Command, pool: Pool, weights: Path, folders: tuple[Path, Path]
) -> None:
    """Under the project's prompts, with the figures of the same weights as a file; other ids are refused."""
    words = ("evaluate", "--images", folders[0], "--masks", folders[1])
    add_champion(pool, weights)
    with pool.write() as session:
        session.get_one(Project, 1).prompts = {"tumor": "bright disc"}
    code, out, err = command(*words, "--json")
    assert code == 0, err
    assert (parse(out)["about"]["project"], parse(out)["about"]["model"]) == (7, 1)
    assert parse(out)["labels"] == parse(command(*words, "--weights", weights, "--json")[1])["labels"]
    assert command(*words, "--project", "7", "--model", "1")[0] == 0
    code, _, err = command(*words, "--model", "9")
    assert (code, err.count("\n")) == (1, 1)
    assert "project 7 has no model 9; see `maskloop models`" in err


def test_errors_are_one_line_with_the_cure(
    command: Command, weights: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """What cannot be done is told before anything is predicted: exit code 1, no traceback."""
    root = write_dataset(tmp_path / "discs")
    both = ("--images", folders[0], "--masks", folders[1])
    names, damaged = tmp_path / "names.txt", tmp_path / "damaged.safetensors"
    names.write_text("nobody.png\n")
    damaged.write_bytes(weights.read_bytes()[:200])
    (tmp_path / "empty").mkdir()
    (folders[1] / "tumor" / "2.png").unlink()
    for words, cure in [
        (("evaluate", *both), "maskloop connect"),
        (("evaluate", "--weights", weights), "--dataset"),
        (("evaluate", "--images", folders[0], "--weights", weights), "--masks"),
        (("evaluate", *both, "--dataset", root, "--weights", weights), "--dataset alone"),
        (("evaluate", *both, "--weights", weights), f"the mask {folders[1] / 'tumor' / '2.png'} is missing"),
        (("evaluate", *both, "--weights", weights, "--only", names), "names 'nobody.png'"),
        (("evaluate", *both, "--weights", weights, "--project", "7"), "--weights names the model already"),
        (("evaluate", *both, "--weights", weights, "--prompt", "tumor"), "must look like"),
        (("evaluate", *both, "--weights", weights, "--prompt", "cyst=x"), "the labels are: tumor"),
        (("evaluate", *both, "--weights", weights, "--method", "guess"), "must be one of monte-carlo"),
        (("evaluate", *both, "--weights", damaged), "fetch or train it again"),
        (("evaluate", "--images", tmp_path / "empty", "--masks", folders[1], "--weights", weights), "no image to"),
        (("evaluate", "--dataset", folders[1], "--weights", weights), "there is no Prompts_Folder in it, but tumor"),
        (("evaluate", "--dataset", root, "--weights", weights, "--prompts", "short"), "got 'short'"),
        (("evaluate", "--dataset", root, "--weights", weights, "--split", "tests"), "got 'tests'"),
        (("data-efficiency", root, "--out", tmp_path / "o", "--percent", "30"), "got 30"),
        (("data-efficiency", root, "--out", tmp_path / "o", "--steps", "1", "--epochs", "1"), "--steps or --epochs"),
        (("data-efficiency", root, "--out", tmp_path / "o", "--prompts", "short"), "got 'short'"),
        (("domain-generalisation", "--train", root, "--test", root, "--out", tmp_path / "o"), "other names"),
        (("lint-dataset", folders[1]), "there is no Prompts_Folder"),
    ]:
        code, out, err = command(*words)
        assert code == 1, (words, out, err)
        assert err.count("\n") == 1, (words, err)
        assert cure in err, (words, err)


def test_data_efficiency_trains_tests_and_goes_on(command: Command, tmp_path: Path) -> None:
    """Two shares of two steps each; the second call finds all done; other settings are refused."""
    root, out_folder = write_dataset(tmp_path / "discs", train=8), tmp_path / "out"
    words = ("data-efficiency", root, "--out", out_folder, "--percent", "25", "--percent", "100", "--batch", "2")
    code, out, err = command(*words, "--steps", "2", "--json")
    assert code == 0, err
    cells = parse(out)["cells"]
    assert [(cell["training"], cell["learnt"]) for cell in cells] == [("25 %", 2), ("100 %", 8)]
    assert all(0 <= cell["dice"] <= 1 and 0 <= cell["validation_dice"] <= 1 for cell in cells)
    assert "train discs 25 % on 2 images" in err
    files = {path.name for path in out_folder.iterdir()}
    assert files == {"run.json", "results.md", "results.json", "weights", "cells", "images"}
    assert len(list((out_folder / "images").glob("*.csv"))) == 4
    for path in (out_folder / "weights").iterdir():
        assert load_weights(path.read_bytes(), device="cpu").spec.name == "nano"
    code, again, err = command(*words, "--steps", "2", "--json")
    assert (code, again) == (0, out)
    assert "train" not in err
    code, text, _ = command(*words, "--steps", "2")
    assert text == (out_folder / "results.md").read_text()
    assert "| test prompts | 25 % (2 images) | 100 % (8 images) |" in text
    code, _, err = command(*words, "--steps", "3")
    assert code == 1
    assert "other settings (steps 2, now 3)" in err


def test_weights_of_a_protocol_can_be_evaluated(command: Command, tmp_path: Path) -> None:
    """On the same images they have the Dice of the table; epochs say how long to train."""
    root, out_folder = write_dataset(tmp_path / "discs", train=4), tmp_path / "out"
    words = ("data-efficiency", root, "--out", out_folder, "--percent", "100", "--batch", "2", "--epochs", "1")
    code, out, err = command(*words, "--label", "disc", "--json")
    assert code == 0, err
    weights = next((out_folder / "weights").iterdir())
    code, told, err = command("evaluate", "--dataset", root, "--weights", weights, "--json")
    assert code == 0, err
    assert parse(told)["dice"]["disc"] == pytest.approx(parse(out)["cells"][0]["dice"])


def test_domain_generalisation(command: Command, tmp_path: Path) -> None:
    """One training, three tests, and their means."""
    roots = [
        write_dataset(tmp_path / name, first_seed=50 * n, train=4) for n, name in enumerate(("home", "near", "far"))
    ]
    words = ("--train", roots[0], "--test", roots[1], "--test", roots[2], "--out", tmp_path / "out")
    code, out, err = command("domain-generalisation", *words, "--steps", "1", "--batch", "2", "--json")
    assert code == 0, err
    found = parse(out)
    dice = {cell["dataset"]: cell["dice"] for cell in found["cells"]}
    means = found["means"]["original"]
    assert means["id"] == dice["home"]
    assert means["ood"] == pytest.approx((dice["near"] + dice["far"]) / 2)
    assert "| test prompts | ID: home | near | far | OOD | HM |" in (tmp_path / "out" / "results.md").read_text()


def test_lint_tells_and_counts(command: Command, tmp_path: Path) -> None:
    """Notes alone are exit code 0; a problem is 1; many of a kind are counted, not listed."""
    root = write_dataset(tmp_path / "discs")
    code, out, err = command("lint-dataset", root)
    assert (code, "discs: 13 sheets" in out) == (0, True)
    assert "0 problems" in err
    write_sheets(root, {"Train_text": [[f"gone {n}.png", "p", "m"] for n in range(9)]})
    code, _, err = command("lint-dataset", root)
    assert code == 1
    assert "problem: Train_text: line 2, 'gone 0.png': there is no image" in err
    assert "problem: Train_text: 6 more (no-image)" in err
    code, out, _ = command("lint-dataset", root, "--json")
    assert (code, parse(out)["healthy"]) == (1, False)


def test_the_commands_load_no_torch_before_they_run() -> None:
    """`maskloop --help` stays light; this module takes the others with it."""
    code = "import sys, maskloop_backend.cli.evaluating; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "False"


def test_busi(command: Command, weights: Path, tmp_path: Path) -> None:
    """Three of the published images under their published prompts."""
    if not BUSI.is_dir():
        pytest.skip("the BUSI images are not beside this checkout")
    words = ("evaluate", "--dataset", BUSI, "--weights", weights, "--limit", "3", "--out", tmp_path / "out", "--json")
    code, out, err = command(*words)
    assert code == 0, err
    assert parse(out)["images"] == 3
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "results.csv").read_text())))
    assert all("breast ultrasound image" in row["prompt"] for row in rows)
    assert all(int(row["area_truth"]) >= 0 for row in rows)
