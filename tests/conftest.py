"""Fixtures that every test file may use; each kind lives in a module of its own."""

import socketserver
import sys
from collections.abc import Iterator
from typing import Any

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
    "dashboard_pages",
    "official_fixture",
]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the one running demo, and measures its speed: such tests run alone, one after the other."""
    for item in items:
        if "demo" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.demo)


@pytest.fixture(autouse=True, scope="session")
def _silent_servers() -> Iterator[None]:
    """Local servers say nothing of clients that have left: their words would stand among a command's own."""
    loud = socketserver.BaseServer.handle_error

    def handle_error(self: socketserver.BaseServer, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            loud(self, request, client_address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socketserver.BaseServer, "handle_error", handle_error)
        yield
