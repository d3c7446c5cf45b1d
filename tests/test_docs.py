"""The documentation is tested: settings, commands, and what the project says of itself."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from maskloop_backend.cli import app
from maskloop_learner.settings import Settings

ROOT = Path(__file__).parents[1]


def test_settings_page_is_the_settings_table() -> None:
    """docs/settings.md says exactly what the code says."""
    script = [sys.executable, str(ROOT / "scripts" / "settings_table.py")]
    made = subprocess.run(script, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert (ROOT / "docs" / "settings.md").read_text() == made, (
        "run: python scripts/settings_table.py > docs/settings.md"
    )


def test_every_setting_is_described() -> None:
    """One sentence each, ending with a full stop."""
    lacking = [name for name, field in Settings.model_fields.items() if not (field.description or "").endswith(".")]
    assert lacking == []


def test_a_bad_setting_is_named() -> None:
    """The message has the variable, the value and the reason; exit code 2, no traceback."""
    command = [sys.executable, "-m", "maskloop_backend", "doctor"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={"PATH": "", "MASKLOOP_SAMPLES": "many"}, check=False
    )
    assert done.returncode == 2
    assert "MASKLOOP_SAMPLES" in done.stderr
    assert "'many'" in done.stderr
    assert "Traceback" not in done.stderr


def command_names() -> list[str]:
    """All subcommands of `maskloop`."""
    command = get_command(app)
    return sorted(command.commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", command_names())
def test_commands_explain_themselves(name: str) -> None:
    """Each has a help text and is named in the README."""
    assert get_command(app).commands[name].help  # type: ignore[attr-defined]
    assert f"maskloop {name}" in (ROOT / "README.md").read_text()


def test_readme_links_exist() -> None:
    """Pictures and pages that the README shows are in the repository."""
    text = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\(([^)#]+)\)", text)
    missing = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert links
    assert missing == []


def test_readme_names_make_targets_that_exist() -> None:
    """`make x` in the README is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)`", (ROOT / "README.md").read_text()))
    assert {"demo", "test"} <= named <= targets
