"""Which code this is, for what it makes: the package's version, its commit where it runs from a checkout, torch's."""

import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from maskloop_learner import __version__

PACKAGE = Path(__file__).resolve().parent
PATIENCE = 10.0
"""Seconds for git."""


@lru_cache(maxsize=1)
def code_version() -> dict[str, str | None]:
    """{"maskloop", "commit", "torch"}; commit: None when unknown, and with `-dirty` when files were changed since."""
    return {"maskloop": __version__, "commit": _commit(PACKAGE), "torch": _installed("torch")}


def _commit(package: Path) -> str | None:
    # An environment inside somebody else's repository must not be taken for a commit of ours.
    if not (package.parents[1] / ".git").exists():
        return None
    command = ["git", "-C", str(package.parents[1]), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
