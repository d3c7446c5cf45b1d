"""The embedded Valkey of an installation: its binary, its configuration, and the process that becomes it.

Used when no MASKLOOP_REDIS_URL is given. Loopback only, with a generated password that is never in a command
line; the port is kept over restarts unless somebody else has taken it.
"""

import fcntl
import os
import secrets
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from maskloop_learner.settings import Settings
from maskloop_queue.processes import become
from maskloop_queue.servers import Server, ValkeyError, find_server

__all__ = ["ValkeyError", "endpoint", "is_ready", "prepare", "redis_url", "valkey_command"]

HOST = "127.0.0.1"
LOCK_PATIENCE = 10.0
_CONFIG = """\
# Written by Maskloop at every start. The password is a secret: keep this file to yourself (mode 0600).
bind {host}
port {port}
requirepass {password}
dir {data}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
logfile ""
"""


@dataclass(frozen=True)
class Endpoint:
    """Where the embedded Valkey of a home folder listens."""

    port: int
    password: str

    @property
    def url(self) -> str:
        """As a Redis URL, password included."""
        return f"redis://:{self.password}@{HOST}:{self.port}/0"


def valkey_command(home: Path) -> list[str]:
    """Command of a process that becomes the Valkey of `home` and dies with its parent.

    Start it from a thread that lives as long: on Linux the kernel takes the end of that thread for the parent's.
    """
    return [sys.executable, "-m", "maskloop_queue.valkey", str(home)]


def redis_url(settings: Settings) -> str:
    """The Redis URL of an installation. ValkeyError when it is the embedded one and that never ran."""
    return settings.redis_url or endpoint(settings.home).url


def endpoint(home: Path) -> Endpoint:
    """Where the Valkey of `home` listens, or listened last. ValkeyError when it never ran."""
    found = _read(home)
    if found is None:
        raise ValkeyError(
            f"no embedded Valkey has run in {home / 'valkey'}: start it with `maskloop up`, or set MASKLOOP_REDIS_URL"
        )
    return found


def is_ready(home: Path) -> bool:
    """Whether the Valkey of `home` answers now (a restart that still loads its data does not)."""
    found = _read(home)
    if found is None:
        return False
    client = redis.Redis.from_url(
        found.url, socket_connect_timeout=0.5, socket_timeout=0.5, retry=Retry(NoBackoff(), retries=0)
    )
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def _read(home: Path) -> Endpoint | None:
    try:
        text = (home / "valkey" / "valkey.conf").read_text()
    except FileNotFoundError:
        return None
    values = dict(line.split(maxsplit=1) for line in text.splitlines() if " " in line)
    return Endpoint(int(values["port"]), values["requirepass"]) if {"port", "requirepass"} <= set(values) else None


def _free_port(wanted: int) -> int:
    """`wanted` if nobody listens there, else some free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ValkeyError(f"no free port on {HOST}")


def _hold(folder: Path) -> int:
    """Lock `folder` for as long as this process, and the server it becomes, lives; two would spoil the data."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise ValkeyError(f"another Valkey is running on {folder}: stop it first") from None
            time.sleep(0.2)
        else:
            os.set_inheritable(lock, True)
            return lock


def prepare(home: Path) -> tuple[Server, Path]:
    """Choose server and port, write the configuration; return both. ValkeyError when another Valkey runs there."""
    folder = home / "valkey"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _hold(folder)
    server = find_server()
    # An older server cannot read a newer one's files: one folder per kind and major version.
    data = folder / f"{server.flavour}-{server.version[0]}"
    data.mkdir(mode=0o700, exist_ok=True)
    before = _read(home)
    text = _CONFIG.format(
        host=HOST,
        port=_free_port(before.port if before else 0),
        password=before.password if before else secrets.token_urlsafe(32),
        data=f'"{data.absolute()}"',
    )
    config, fresh = folder / "valkey.conf", folder / f".valkey.conf.{os.getpid()}"
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    os.replace(fresh, config)
    return server, config


def main(home: Path) -> int:
    """Become the Valkey of `home`, which dies with the present parent."""
    try:
        server, config = prepare(home)
    except ValkeyError as error:
        print(f"valkey: {error}", file=sys.stderr)
        return 1
    os.environ["LC_ALL"] = "C"  # an unknown locale in the environment stops the server
    return become([str(server.binary), str(config.absolute())])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
