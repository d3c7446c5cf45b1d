"""Which processes an installation has, and how they are started."""

import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from maskloop_backend.demo.host import HOST, Account, label_studio_command, label_studio_environment
from maskloop_backend.supervisor import Service, Supervisor, hold_home
from maskloop_learner.settings import Settings
from maskloop_queue.valkey import is_ready, valkey_command

PORT_PATIENCE = 10.0
"""Seconds: the processes of a supervisor that was killed a moment ago are still ending."""


class PortBusy(RuntimeError):
    """A port that a process would listen on is taken."""


def list_services(settings: Settings, label_studio: tuple[Path, Account] | None = None) -> list[Service]:
    """The services of `maskloop up`, or of the demo when Label Studio's program and account are given."""
    services: list[Service] = []
    first: tuple[str, ...] = ()
    if settings.redis_url is None:
        home = settings.home
        services.append(Service("valkey", valkey_command(home), ready=lambda: is_ready(home)))
        first = ("valkey",)
    if label_studio is not None:
        program, account = label_studio
        folder = settings.home / "demo"
        environment = label_studio_environment(settings, folder, account)
        services.append(
            Service("labelstudio", label_studio_command(program, settings), env=environment, foreign=True, quiet=True)
        )
    services.append(Service("web", _command("web"), after=first))
    services.append(Service("sync", _command("sync"), after=first, beat=_beat(settings, "sync")))
    for kind, count in (("gpu", settings.gpu_workers), ("training", settings.training_workers)):
        for number in range(1, count + 1):
            name = kind if count == 1 else f"{kind}-{number}"
            services.append(Service(name, _command("worker", kind), after=first, beat=_beat(settings, name)))
    return services


def run_services(
    settings: Settings,
    *,
    label_studio: tuple[Path, Account] | None = None,
    started: Callable[[], None] | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Keep all services running until Ctrl-C, SIGTERM or `stop`; return the exit code.

    `started` is called once they run. Raises PortBusy, and HomeBusy when this installation runs already.
    """
    services = list_services(settings, label_studio)
    supervisor = Supervisor(
        services, home=settings.home, hang_timeout=settings.hang_timeout, on_ready=started, stop=stop
    )
    with hold_home(settings.home):
        pass  # a home that is in use is the better message than its ports being taken
    _refuse_busy_port(settings.host, settings.port, "MASKLOOP_PORT")
    if label_studio is not None:
        _refuse_busy_port(HOST, settings.label_studio_port, "MASKLOOP_LABEL_STUDIO_PORT")
    return supervisor.run()


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "maskloop_backend", *words]


def _beat(settings: Settings, name: str) -> Path:
    return settings.home / "run" / f"{name}.beat"


def _refuse_busy_port(host: str, port: int, setting: str) -> None:
    # Said here, once: a process that cannot listen would be restarted for ever.
    end = time.monotonic() + PORT_PATIENCE
    while (reason := _why_busy(host, port)) is not None:
        if time.monotonic() > end:
            raise PortBusy(
                f"port {port} of {host} cannot be used: {reason}; stop the program that has it, "
                f"or choose another with {setting}"
            )
        time.sleep(0.25)


def _why_busy(host: str, port: int) -> str | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror
    return None
