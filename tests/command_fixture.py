"""`maskloop ...` in the tests' own process: quick, and with everything that it prints."""

import sys
from collections.abc import Callable

import pytest

from maskloop_backend.cli import main
from maskloop_learner.settings import Settings, get_settings

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`maskloop ...` on the test's home folder: exit code, stdout, stderr."""
    monkeypatch.setenv("MASKLOOP_HOME", str(settings.home))
    if settings.database_url:
        monkeypatch.setenv("MASKLOOP_DATABASE_URL", settings.database_url)
    get_settings.cache_clear()

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["maskloop", *words])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call
