"""What a process of an installation owes the others: to die with its parent, keep to its threads, show life.

`python -m maskloop_queue.processes COMMAND ...` runs a foreign program that dies with its parent.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from maskloop_learner.model.memory import keep_freed_memory

PARENT_VARIABLE = "MASKLOOP_PARENT_PID"
"""Set by the supervisor for its children; absent when a person started the process."""
BEAT_VARIABLE = "MASKLOOP_BEAT"
"""Set by the supervisor: the file that the child must touch to show life."""
GRACE = 8.0
"""Seconds a process may take to end after its supervisor has died."""
_PR_SET_PDEATHSIG = 1
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def die_with_parent(sig: signal.Signals = signal.SIGTERM, *, parent: int | None = None) -> None:
    """Have the kernel send `sig` to this process when its parent dies (elsewhere than Linux: a watching thread).

    Without `parent` it means the supervisor; a process that a person started by hand lives on when the shell ends.
    """
    supervised = parent is None
    if parent is None:
        parent = int(os.environ.pop(PARENT_VARIABLE, "0"))
        if parent == 0 or (os.getppid() != parent and _alive(parent)):
            return
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(sig)) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        # It died before the kernel was asked to tell.
        os.kill(os.getpid(), sig)
    if supervised or sys.platform != "linux":
        threading.Thread(target=_watch_parent, args=(parent, sig), name="parent-watch", daemon=True).start()


def become(command: list[str]) -> int:
    """Turn this process into `command`, which dies with the present parent. Returns only elsewhere than on Linux."""
    die_with_parent(signal.SIGTERM, parent=os.getppid())
    if sys.platform == "linux":
        os.execvp(command[0], command)
    # Elsewhere nothing tells a foreign program of its parent's death: stay, and pass the signal on.
    child = subprocess.Popen(command, close_fds=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: child.terminate())
    return child.wait()


def _watch_parent(parent: int, sig: signal.Signals) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), sig)
    # A process that does not listen (a hung native call) must not outlive the installation.
    time.sleep(GRACE)
    os.kill(os.getpid(), signal.SIGKILL)


def machine() -> str:
    """Names the machine, until it starts anew: the same in all its containers, whatever they call themselves."""
    return _BOOT.read_text().strip() if _BOOT.exists() else socket.gethostname()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def set_threads(count: int) -> None:
    """Bound the CPU threads of numerical libraries in this process; call it before torch is imported.

    Such a process is about to compute: the memory that it frees is kept for its next tensors.
    """
    keep_freed_memory()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ[name] = str(count)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(count)


class Beat:
    """A file whose modification time shows that a process is alive and not stuck. Without a path it does nothing."""

    def __init__(self, path: Path | None, *, interval: float = 0.5) -> None:
        self.path = path
        self.interval = interval
        self._touched = 0.0

    @classmethod
    def of_process(cls) -> "Beat":
        """The beat that the supervisor asked of this process, if there is a supervisor."""
        path = os.environ.get(BEAT_VARIABLE)
        return cls(Path(path) if path else None)

    def touch(self) -> None:
        """Show life; at most once per `interval` seconds it costs a system call."""
        now = time.monotonic()
        if self.path is None or now - self._touched < self.interval:
            return
        self._touched = now
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()

    def age(self) -> float | None:
        """Seconds since the last touch by the wall clock; None when there was none."""
        try:
            return max(0.0, time.time() - self.path.stat().st_mtime) if self.path else None
        except FileNotFoundError:
            return None


if __name__ == "__main__":
    sys.exit(become(sys.argv[1:]))
