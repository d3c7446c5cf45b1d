"""Set-up says in one line what is wrong, whatever Python a newcomer has."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def setup() -> ModuleType:
    """scripts/setup.py as a module."""
    spec = importlib.util.spec_from_file_location("maskloop_setup", ROOT / "scripts" / "setup.py")
    if spec is None or spec.loader is None:
        raise RuntimeError("scripts/setup.py cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_too_old_a_python(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line names the version that is needed, the one that was found, and what to type."""
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    with pytest.raises(SystemExit, match=r"Python 3\.11 or newer is needed.*is 3\.9; try `make PYTHON=") as ended:
        setup.check_python()
    assert "\n" not in str(ended.value)


def test_no_venv_module(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian splits it off; the line names the package."""
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(SystemExit, match=r"no venv module; install it.*python3-venv"):
        setup.check_python()


def test_no_package_index(tmp_path: Path) -> None:
    """A machine without a network gets one line, and a second run starts over."""
    closed = {
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_RETRIES": "0",
        "PIP_FIND_LINKS": "",
        "PIP_NO_INDEX": "",
    }
    env = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")} | closed
    env["PIP_CONFIG_FILE"] = os.devnull
    command = [sys.executable, str(ROOT / "scripts" / "setup.py"), "--venv", str(tmp_path / "venv")]
    for _ in range(2):
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "cannot reach a package index" in done.stderr
    assert not (tmp_path / "venv" / "maskloop-stamp").exists()


def test_a_finished_environment_is_left_alone(setup: ModuleType, tmp_path: Path) -> None:
    """The stamp of the lock files makes the second set-up instant; another lock file installs again."""
    (tmp_path / "maskloop-stamp").write_text("state")
    setup.prepare(str(tmp_path), "nothing", "state", "a-package-that-does-not-exist")
    assert setup.digest("constraints.txt") == setup.digest("constraints.txt")
    assert setup.digest("constraints.txt") != setup.digest("pyproject.toml")


def test_constraints_pin_every_dependency(setup: ModuleType) -> None:
    """What pyproject.toml names is locked, and nothing in the lock files names a machine or an index."""
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    names = {pin.split("==")[0].lower().replace("_", "-") for pin in pins}
    for requirement in setup.requirements():
        name = requirement.split(";")[0]
        for mark in "<>=[~! ":
            name = name.split(mark)[0]
        assert name.lower().replace("_", "-") in names, requirement
    for line in [*pins, *(ROOT / "constraints-label-studio.txt").read_text().splitlines()]:
        assert line.count("==") == 1, line
        assert "/" not in line
