"""The users of the web process, followed as their file changes: a reader is added without a restart."""

import logging
import threading
from pathlib import Path

from maskloop_backend.credentials import FILE, Credentials, CredentialsError, load_credentials
from maskloop_backend.web.sessions import Sessions

logger = logging.getLogger(__name__)


class Users:
    """The credentials that count now, and the sessions that are signed with them."""

    def __init__(self, credentials: Credentials, home: Path) -> None:
        self._home = home
        self._seen = self._stamp()
        self._sessions = Sessions(credentials)
        self._lock = threading.Lock()

    @property
    def sessions(self) -> Sessions:
        """As of now. A file that cannot be read any more changes nothing."""
        stamp = self._stamp()
        if stamp is not None and stamp != self._seen:
            with self._lock:
                try:
                    self._sessions = Sessions(load_credentials(self._home))
                except CredentialsError as error:
                    logger.error("the credentials stay as they were: %s", error)
                self._seen = self._stamp()
        return self._sessions

    @property
    def credentials(self) -> Credentials:
        """As of now."""
        return self.sessions.credentials

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = (self._home / FILE).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino
