"""The demo's own Label Studio: its virtual environment, its account, and how it is started."""

import json
import os
import secrets
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from maskloop_backend.demo.slices import DemoError
from maskloop_learner.settings import Settings

RELEASE = "1.23.2"
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Account:
    """The demo's only user of Label Studio."""

    email: str
    password: str = field(repr=False)
    token: str = field(repr=False)


def find_label_studio(settings: Settings) -> Path:
    """The `label-studio` program; it is installed into an environment of its own below home when there is none.

    Raises DemoError when it cannot be had.
    """
    if settings.label_studio:
        program = Path(settings.label_studio)
        if not program.exists():
            raise DemoError(f"MASKLOOP_LABEL_STUDIO names {program}, which does not exist; correct or unset it")
        return program
    environment = settings.home / "label-studio"
    program = environment / "bin" / "label-studio"
    if not program.exists():
        print(f"Installing Label Studio {RELEASE} into {environment} (once, about 2 minutes and 1 GB) ...", flush=True)
        for command in (
            [sys.executable, "-m", "venv", str(environment)],
            [str(environment / "bin" / "pip"), "install", "--quiet", f"label-studio=={RELEASE}"],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                shutil.rmtree(environment, ignore_errors=True)
                last = (done.stderr or done.stdout).strip().splitlines()[-1:]
                raise DemoError(f"Label Studio could not be installed: {' '.join(last) or 'no message'}")
    return program


def load_account(folder: Path) -> Account:
    """The demo's account, made on first use and kept in a file that only this user can read."""
    path = folder / "account.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = Account("demo@maskloop.local", secrets.token_urlsafe(9), secrets.token_hex(20))
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(made), file)
    return Account(**json.loads(path.read_text()))


def label_studio_url(settings: Settings) -> str:
    """Where the demo's Label Studio listens."""
    return f"http://{HOST}:{settings.label_studio_port}"


def label_studio_command(program: Path, settings: Settings) -> list[str]:
    """The command that serves Label Studio on loopback."""
    port = str(settings.label_studio_port)
    return [str(program), "start", "--no-browser", "--internal-host", HOST, "--port", port, "--log-level", "WARNING"]


def label_studio_environment(settings: Settings, folder: Path, account: Account) -> dict[str, str]:
    """What Label Studio needs to know: its folder, its user, and that our web process may be called.

    Its guard against server-side request forgery stays on for metadata addresses; loopback must be allowed, since
    the demo lives there. Nothing is sent anywhere.
    """
    return {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "label-studio"),
        "LABEL_STUDIO_USERNAME": account.email,
        "LABEL_STUDIO_PASSWORD": account.password,
        "LABEL_STUDIO_USER_TOKEN": account.token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LABEL_STUDIO_HOST": label_studio_url(settings),
        "USE_DEFAULT_BANNED_SUBNETS": "false",
        "USER_ADDITIONAL_BANNED_SUBNETS": "169.254.0.0/16",
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        # An abandoned tab would hide the most uncertain image for a day.
        "TASK_LOCK_TTL": "3600",
    }
