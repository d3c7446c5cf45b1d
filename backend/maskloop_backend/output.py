"""What supervised processes print: every line with its process's name, on the terminal and in one rotated log."""

import logging
import os
import sys
import threading
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO, TextIO

LOG_BYTES = 10_000_000
LOGS_KEPT = 5
_LONGEST_LINE = 64_000
_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


class Output:
    """The one place where lines go. Safe to use from several threads."""

    def __init__(
        self, log_path: Path, names: list[str], terminal: TextIO | None = None, quiet: frozenset[str] = frozenset()
    ) -> None:
        """`names`: of all processes; those in `quiet` are written to the log alone."""
        self._quiet = quiet
        log_path.parent.mkdir(parents=True, exist_ok=True)
        # Lines may name patients' files: for the owner's eyes only.
        os.close(os.open(log_path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
        self._file = RotatingFileHandler(log_path, maxBytes=LOG_BYTES, backupCount=LOGS_KEPT, encoding="utf-8")
        self._file.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        self._terminal: TextIO | None = terminal or sys.stdout
        self._width = max(map(len, names), default=0)
        coloured = self._terminal.isatty() and "NO_COLOR" not in os.environ
        self._colour = dict(zip(names, _COLOURS * len(names), strict=False)) if coloured else {}
        self._lock = threading.Lock()

    def write(self, name: str, line: str) -> None:
        """One line of the process `name`."""
        prefix = name.ljust(self._width)
        self._file.emit(logging.makeLogRecord({"msg": f"{prefix} | {line}", "levelno": logging.INFO}))
        if name in self._quiet:
            return
        shown = f"\x1b[{self._colour[name]}m{prefix} |\x1b[0m {line}" if name in self._colour else f"{prefix} | {line}"
        with self._lock:
            if self._terminal is None:
                return
            try:
                self._terminal.write(shown + "\n")
                self._terminal.flush()
            except (OSError, ValueError):
                self._terminal = None  # it was closed; the log goes on

    def follow(self, name: str, stream: IO[bytes]) -> threading.Thread:
        """Write all that comes out of `stream`, in a thread that ends with it."""
        thread = threading.Thread(target=self._copy, args=(name, stream), name=f"output-{name}", daemon=True)
        thread.start()
        return thread

    def _copy(self, name: str, stream: IO[bytes]) -> None:
        with stream:
            while line := stream.readline(_LONGEST_LINE):
                text = line.decode(errors="replace").rstrip()
                if text:
                    self.write(name, text.rsplit("\r", 1)[-1])

    def close(self) -> None:
        """Close the log."""
        self._file.close()
