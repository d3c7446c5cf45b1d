"""A real supervisor: `python supervisor_script.py HOME SERVICES`, the services as JSON. Children of several kinds."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from maskloop_backend.supervisor import HomeBusy, Service, Supervisor
from maskloop_queue import valkey
from maskloop_queue.processes import Beat, die_with_parent


def child(kind: str) -> None:
    """A supervised process: prints its kind and pid, then does as its kind says."""
    die_with_parent()
    print(f"{kind} {os.getpid()}", flush=True)
    if kind == "crash":
        sys.exit(3)
    if kind == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    beat = Beat.of_process()
    while True:
        if kind != "hang":
            beat.touch()
        time.sleep(0.1)


def service(home: Path, name: str, **more: Any) -> Service:
    """Valkey, a real worker, a foreign program or one of the children above, by the service's name."""
    here = Path(__file__).parent
    after = tuple(more.pop("after", ()))
    beat = home / "run" / f"{name}.beat" if more.pop("beat", False) else None
    if name == "valkey":
        return Service(name, valkey.valkey_command(home), ready=lambda: valkey.is_ready(home))
    if name in ("gpu", "training"):
        return Service(name, [sys.executable, str(here / "worker_script.py"), name], after=after, beat=beat)
    if name == "foreign":
        return Service(name, ["sleep", "1000"], foreign=True)
    return Service(name, [sys.executable, __file__, "child", name], after=after, beat=beat)


def main(home: Path, services: dict[str, dict[str, Any]]) -> int:
    """Supervise."""
    supervisor = Supervisor(
        [service(home, name, **more) for name, more in services.items()],
        home=home,
        hang_timeout=1.5,
        on_ready=lambda: print("ALL READY", flush=True),
    )
    try:
        return supervisor.run()
    except HomeBusy as error:
        print(error)
        return 5


if __name__ == "__main__":
    if sys.argv[1] == "child":
        child(sys.argv[2])
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
