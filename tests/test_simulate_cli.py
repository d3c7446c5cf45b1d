"""`maskloop simulate` as a person runs it: how it fails, what it leaves, and that nothing is lost when it is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
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
        (["--strategies", "uncertainty:doubt"], "foreground_band|patch_max|top_q|boundary_norm; got 'doubt'"),
        (["--strategies", "typiclust:variance/mean"], "'typiclust' does not rank by a score; take 'typiclust' alone"),
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


def listen_to_ctrl_c() -> None:
    """What is started in the background of a shell ignores it, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def begin(home: Path, *words: str | Path) -> Iterator["subprocess.Popen[str]"]:
    """`maskloop simulate ...` as a process group of its own; what is left of it in the end is killed."""
    path = os.pathsep.join(str(ROOT / folder) for folder in ("backend", "learner", "queue"))
    env = {**os.environ, "MASKLOOP_HOME": str(home), "MASKLOOP_DEVICE": "cpu", "PYTHONPATH": path}
    process = subprocess.Popen(
        [sys.executable, "-m", "maskloop_backend", "simulate", *map(str, words)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=listen_to_ctrl_c,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]", *, seconds: float = 500) -> None:
    """Until it holds. Raises AssertionError with what the process said when it ends first, or when that takes long."""
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.1)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; a zombie is only a number that nobody has asked for yet."""
    return [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def records(out: Path) -> dict[str, dict[str, Any]]:
    """Finished rounds, without the time that they took."""
    found = {str(path.relative_to(out)): json.loads(path.read_text()) for path in out.glob("rounds/**/*.json")}
    return {name: {**record, "seconds": 0} for name, record in found.items()}


SMALL = ["--strategies", "uncertainty,random", "--steps", "2", "--prompt", "disc=bright disc", "--target", "0.2"]


@dataclass(frozen=True, kw_only=True)
class Interrupted:
    """A simulation of two seeds that was killed in the middle and gone on with to its end, by two processes."""

    home: Path
    options: list[str | Path]
    out: Path
    orphans: list[psutil.Process]
    """What was left of the killed one."""
    kept: dict[str, dict[str, Any]]
    """Rounds that were finished by then."""
    said: str
    notes: str
    """Of the second run, on stdout and stderr."""


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    """Ten trainings, which several tests share: each looks at another side of them."""
    root = tmp_path_factory.mktemp("simulate")
    images, masks = write_discs(root, 12)
    options: list[str | Path] = ["--images", images, "--masks", masks, "--batch", "2", "--rounds", "2", *SMALL]
    home, out = root / "home", root / "out"
    words = [*options, "--out", out, "--seeds", "2", "--workers", "2"]
    with begin(home, *words) as killed:
        wait_for(lambda: len(records(out)) >= 3, killed)
        children = psutil.Process(killed.pid).children(recursive=True)
        killed.kill()
        psutil.wait_procs(children, timeout=20)
        orphans, kept = alive(children), records(out)
    with begin(home, *words) as on:
        said, notes = on.communicate(timeout=500)
        assert on.returncode == 0, notes
    return Interrupted(home=home, options=options, out=out, orphans=orphans, kept=kept, said=said, notes=notes)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_simulation_leaves_no_process_and_goes_on(interrupted: Interrupted) -> None:
    """kill -9 in the middle: its processes die too, and what is finished is not done again."""
    assert interrupted.orphans == []
    assert 3 <= len(interrupted.kept) < 10
    assert f"{len(interrupted.kept)} of 10 rounds are finished already; going on" in interrupted.notes
    ended = records(interrupted.out)
    assert len(ended) == 10
    assert {name: ended[name] for name in interrupted.kept} == interrupted.kept


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_simulation_that_nobody_interrupted_has_the_same_figures(interrupted: Interrupted, tmp_path: Path) -> None:
    """Nor does it matter how many processes there were, or that another seed was simulated beside it."""
    words = [*interrupted.options, "--out", tmp_path / "out", "--seeds", "1", "--workers", "1"]
    with begin(interrupted.home, *words) as whole:
        _, notes = whole.communicate(timeout=500)
        assert whole.returncode == 0, notes
    ended, alone = records(interrupted.out), records(tmp_path / "out")
    assert len(alone) == 5
    assert alone == {name: ended[name] for name in alone}
    assert "1 seed says little" in notes


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_simulation_leaves_figures_a_picture_and_a_page(interrupted: Interrupted, command: Command) -> None:
    """From folders to verdicts in one command; a second one does nothing anew."""
    out = interrupted.out
    found = json.loads((out / "results.json").read_text())
    jsonschema.validate(found, json.loads((ROOT / "docs" / "simulate.schema.json").read_text()))
    assert found["budgets"] == [2, 4, 6]
    assert list(found["strategies"]) == ["random", "uncertainty"]
    assert [each["seed"] for each in found["strategies"]["uncertainty"]["seeds"]] == [0, 1]
    first = [found["strategies"][name]["seeds"][1]["dice"][0] for name in ("random", "uncertainty")]
    assert first[0] == first[1]
    assert list(out.rglob("*.pt")) == []
    assert "2 seeds say little" in interrupted.notes
    told = found["strategies"]["uncertainty"]["against_random"]
    assert found["verdicts"] == [told["text"]]
    assert (told["verdict"] == "better") == ("uncertainty beats random" in told["text"])
    assert told["text"] + "." in interrupted.said
    assert "labels to Dice 0.200" in interrupted.said
    assert (out / "curves.png").stat().st_size > 10_000
    assert escape(told["text"]) in (out / "curves.html").read_text()
    before = {path: path.stat().st_mtime_ns for path in out.glob("rounds/**/*.json")}
    code, again, notes = command(*interrupted.options, "--out", out, "--seeds", "2", "--json")
    assert code == 0
    assert "10 of 10 rounds are finished already" in notes
    assert json.loads(again)["strategies"] == found["strategies"]
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ctrl_c_leaves_a_folder_that_can_be_gone_on_with(options: list[str | Path], tmp_path: Path) -> None:
    """In the midst of a training it ends soon, says so, and leaves no process behind."""
    out = tmp_path / "out"
    words = [*options, *SMALL[:2], "--seeds", "1", "--steps", "2000", "--workers", "1"]
    with begin(tmp_path / "home", *words) as run:
        wait_for(lambda: len(list(out.glob("vectors-*.npy"))) == 1, run)
        children = psutil.Process(run.pid).children(recursive=True)
        assert children
        # As a terminal does: to all processes of the group.
        os.killpg(run.pid, signal.SIGINT)
        _, notes = run.communicate(timeout=300)
    assert run.returncode == 130
    assert "stopped after 0 of 5 rounds; the same command goes on from there" in notes
    assert "Traceback" not in notes
    # The kernel ends them with their parent, but not in the same moment.
    assert alive(psutil.wait_procs(children, timeout=10)[1]) == []
