"""Fixtures that every test file may use; each kind lives in a module of its own."""

import pytest

pytest_plugins = [
    "postgres_fixture",
    "pool_fixture",
    "command_fixture",
    "valkey_fixture",
    "worker_fixture",
    "web_fixture",
    "labelstudio_fixture",
    "s3_fixture",
    "matrix_fixture",
    "demo_fixture",
    "recovery_fixture",
    "browser_fixture",
    "official_fixture",
]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the one running demo, and measures its speed: such tests run alone, one after the other."""
    for item in items:
        if "demo" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.demo)
