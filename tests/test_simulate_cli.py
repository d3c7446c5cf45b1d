"""`maskloop simulate` as a person runs it: how it fails, what it leaves, and that nothing is lost when it is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest
import typer
from dataset_files import draw_disc
from simulate_fixture import write_discs

import maskloop_backend.cli as cli
from maskloop_backend.cli import simulating
from maskloop_learner.settings import get_settings

ROOT = Path(__file__).parents[1]
Command = Callable[..., tuple[int, str, str]]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`maskloop simulate ...` in this process, for what ends before the first round: exit code, stdout, stderr."""
    monkeypatch.setenv("MASKLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MASKLOOP_DEVICE", "cpu")
    get_settings.cache_clear()
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    simulating.register(app)
    monkeypatch.setattr(cli, "app", app)

    def call(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["maskloop", "simulate", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


@pytest.fixture
def options(tmp_path: Path) -> list[str | Path]:
    """12 images with a disc, and where the results go."""
    images, masks = write_discs(tmp_path, 12)
    return ["--images", images, "--masks", masks, "--out", tmp_path / "out", "--batch", "2", "--rounds", "2"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--strategies", "best"], "there is no strategy 'best'; choose one of uncertainty, "),
        (["--oracle", "blind"], "oracle must be one of perfect, noisy_boundary, missing_small, anchored, got 'blind'"),
        (["--batch", "20"], "2 rounds of 20 are 60 images, but the pool has 7"),
        (["--test-share", "1.5"], "--test-share must be between 0 and 1, got 1.5"),
        (["--target", "55"], "--target must be a Dice above 0 and up to 1, got 55.0"),
        (["--strategies", "mutual_information"], "which is 0 in a single pass: take --method monte-carlo"),
        (["--group-pattern", "("], "is no regular expression"),
        (["--prompt", "disc"], '--prompt must look like "Tumor=tumor in a breast ultrasound"'),
        (["--method", "guess"], "--method must be one of monte-carlo, antithetic, mean-value, got 'guess'"),
        (["--random-share", "2"], "random_share must be between 0 and 1, got 2"),
    ],
)
def test_what_cannot_be_simulated_is_one_line(
    command: Command, options: list[str | Path], more: list[str], said: str
) -> None:
    """It names what was typed and what would do; nothing is trained."""
    code, out, err = command(*options, *more)
    assert code == 1
    assert out == ""
    assert said in err.splitlines()[-1]
    assert "Traceback" not in err


def test_masks_without_images_are_an_error(command: Command, options: list[str | Path], tmp_path: Path) -> None:
    """The folders do not belong together."""
    draw_disc(1, radius=8)[1].save(tmp_path / "masks" / "other.png")
    code, _, err = command(*options)
    assert code == 1
    assert "1 of 13 masks have no image of their name: 'other.png'" in err


def test_empty_masks_alone_are_an_error(command: Command, tmp_path: Path) -> None:
    """There is nothing to learn."""
    images, masks = write_discs(tmp_path, 6, empty=6)
    code, _, err = command("--images", images, "--masks", masks, "--out", tmp_path / "out")
    assert code == 1
    assert "all masks of the 6 images are empty" in err


def test_empty_masks_can_be_left_out(command: Command, tmp_path: Path) -> None:
    """They are counted; the pool is what is left."""
    images, masks = write_discs(tmp_path, 12, empty=5)
    words = ("--images", images, "--masks", masks, "--out", tmp_path / "out", "--skip-empty", "--batch", "20")
    code, _, err = command(*words)
    assert code == 1
    assert "5 images with empty masks are left out (--skip-empty)" in err
    assert "(3 of 7 test)" in err


def test_a_folder_of_other_settings_is_refused(command: Command, options: list[str | Path], tmp_path: Path) -> None:
    """It names what differs; the results there stay as they are."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text(json.dumps({"batch": 3}))
    code, _, err = command(*options)
    assert code == 1
    assert "holds results of other settings" in err
    assert "batch 3, now 2" in err


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `maskloop simulate ...` as a process group of its own; what is left of it in the end is killed."""
    started: list[subprocess.Popen[str]] = []
    path = os.pathsep.join(str(ROOT / folder) for folder in ("backend", "learner", "queue"))
    home = {"MASKLOOP_HOME": str(tmp_path / "home"), "MASKLOOP_DEVICE": "cpu", "PYTHONPATH": path}

    def call(*words: str | Path) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "maskloop_backend", "simulate", *map(str, words)],
            env={**os.environ, **home},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield call
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


SMALL = ["--strategies", "uncertainty,random", "--seeds", "2", "--steps", "3", "--workers", "2", "--initial", "2"]


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]", *, seconds: float = 200) -> None:
    """Until it holds. Raises AssertionError with what the process said when it ends first, or when that takes long."""
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.1)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; a zombie is only a number that nobody has asked for yet."""
    return [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def records(out: Path) -> set[str]:
    """Finished rounds."""
    return {str(path.relative_to(out)) for path in out.glob("rounds/**/*.json")}


def without_seconds(out: Path) -> Any:
    """The results, but for the time that they took."""
    found = json.loads((out / "results.json").read_text())
    for strategy in found["strategies"].values():
        for campaign in strategy["seeds"]:
            del campaign["seconds"]
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_simulation_leaves_figures_a_picture_and_a_page(
    start: Start, options: list[str | Path], tmp_path: Path
) -> None:
    """From folders to verdicts in one command; a second one does nothing anew."""
    out = tmp_path / "out"
    run = start(*options, *SMALL, "--prompt", "disc=bright disc", "--target", "0.2")
    said, notes = run.communicate(timeout=280)
    assert run.returncode == 0, notes
    found = json.loads((out / "results.json").read_text())
    jsonschema.validate(found, json.loads((ROOT / "docs" / "simulate.schema.json").read_text()))
    assert found["budgets"] == [2, 4, 6]
    assert list(found["strategies"]) == ["random", "uncertainty"]
    assert [each["seed"] for each in found["strategies"]["uncertainty"]["seeds"]] == [0, 1]
    first = [found["strategies"][name]["seeds"][1]["dice"][0] for name in ("random", "uncertainty")]
    assert first[0] == first[1]
    assert len(records(out)) == 2 * (1 + 2 * 2)
    assert list(out.rglob("*.pt")) == []
    assert "2 seeds say little" in notes
    assert found["verdicts"][0] + "." in said
    assert "labels to Dice 0.200" in said
    assert (out / "curves.png").stat().st_size > 10_000
    assert found["verdicts"][0] in (out / "curves.html").read_text()
    before = {path: path.stat().st_mtime_ns for path in out.glob("rounds/**/*.json")}
    again = start(*options, *SMALL, "--prompt", "disc=bright disc", "--json")
    told, notes = again.communicate(timeout=280)
    assert "10 of 10 rounds are finished already" in notes
    assert json.loads(told)["budgets"] == [2, 4, 6]
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_simulation_goes_on_with_the_same_figures(
    start: Start, options: list[str | Path], tmp_path: Path
) -> None:
    """kill -9 in the middle: its processes die too, what is finished is kept, and the end is the same."""
    out, twin = tmp_path / "out", tmp_path / "twin"
    small = [*SMALL, "--seeds", "1"]
    killed = start(*options, *small)
    wait_for(lambda: len(records(out)) >= 2, killed)
    children = psutil.Process(killed.pid).children(recursive=True)
    killed.kill()
    psutil.wait_procs(children, timeout=20)
    assert alive(children) == []
    kept = {path: (out / path).read_bytes() for path in records(out)}
    assert 2 <= len(kept) < 5
    on = start(*options, *small)
    _, notes = on.communicate(timeout=280)
    assert on.returncode == 0, notes
    assert f"{len(kept)} of 5 rounds are finished already; going on" in notes
    assert {path: (out / path).read_bytes() for path in kept} == kept
    whole = start(*options[:4], "--out", twin, *options[6:], *small)
    _, notes = whole.communicate(timeout=280)
    assert whole.returncode == 0, notes
    assert without_seconds(out) == without_seconds(twin)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ctrl_c_leaves_a_folder_that_can_be_gone_on_with(
    start: Start, options: list[str | Path], tmp_path: Path
) -> None:
    """It ends soon, says so, and leaves no process behind."""
    out = tmp_path / "out"
    run = start(*options, *SMALL[:4], "--steps", "2000", "--workers", "2")
    wait_for(lambda: (out / "run.json").exists() and len(psutil.Process(run.pid).children()) >= 3, run)
    wait_for(lambda: len(list(out.glob("vectors-*.npy"))) == 1, run)
    children = psutil.Process(run.pid).children(recursive=True)
    # As a terminal does: to all processes of the group.
    os.killpg(run.pid, signal.SIGINT)
    _, notes = run.communicate(timeout=120)
    assert run.returncode == 130
    assert "stopped after 0 of 10 rounds; the same command goes on from there" in notes
    assert "Traceback" not in notes
    assert alive(children) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_file_that_vanishes_meanwhile_is_named(start: Start, options: list[str | Path], tmp_path: Path) -> None:
    """With the round in which it was missed; the other processes end."""
    run = start(*options, *SMALL[:4], "--steps", "40", "--workers", "1")
    wait_for(lambda: len(list((tmp_path / "out").glob("vectors-*.npy"))) == 1, run)
    for path in (tmp_path / "masks").glob("*.png"):
        path.unlink()
    _, notes = run.communicate(timeout=280)
    assert run.returncode == 1
    assert "maskloop: seed 0, first labels, round 0: " in notes
    assert "No such file" in notes
