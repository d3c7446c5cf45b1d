"""Maskloop as a model of label-studio-ml: `label-studio-ml start` with it stands in front of a running Maskloop.

A subclass of the real base class where label-studio-ml 2 or newer is installed, else of ours. Its model.py is
`from maskloop_backend.label_studio_ml import Maskloop`.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import httpx

from maskloop_backend.credentials import FILE, load_credentials
from maskloop_backend.labelstudio.peer import PROJECT_HEADER
from maskloop_learner.settings import Settings, get_settings

PREDICT_SECONDS = 100.0
"""Label Studio waits no longer."""
SECONDS = 10.0
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}


class MaskloopError(RuntimeError):
    """The running Maskloop cannot be asked, or refused; the message says what to do."""


def installed_version() -> str | None:
    """The version of label-studio-ml that is installed, or None."""
    try:
        return version("label-studio-ml")
    except PackageNotFoundError:
        return None


def _base() -> Any:
    installed = installed_version()
    if installed is not None and int(installed.partition(".")[0]) >= 2:
        return import_module("label_studio_ml.model").LabelStudioMLBase
    return import_module("maskloop_backend.ml_base").LabelStudioMLBase


if TYPE_CHECKING:
    from maskloop_backend.ml_base import LabelStudioMLBase as Base
else:
    Base = _base()


class Maskloop(Base):
    """Passes /predict and events on to the Maskloop of MASKLOOP_HOME, at MASKLOOP_PUBLIC_URL or its host and port."""

    def setup(self) -> None:
        """Take over the version that Maskloop serves the project with. Raises MaskloopError."""
        if self.project_id:
            body = {"project": str(self.project_id), "schema": self.label_config}
            self.set("model_version", str(self._ask("/setup", body)["model_version"]))

    def predict(
        self, tasks: list[dict[str, Any]], context: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """Maskloop's predictions, one per task. Raises MaskloopError."""
        body = {
            "tasks": tasks,
            "project": str(self.project_id),
            "label_config": self.label_config,
            "params": {**kwargs, "context": context},
        }
        results: list[dict[str, Any]] = self._ask("/predict", body, seconds=PREDICT_SECONDS)["results"]
        return results

    def fit(self, event: str, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Hand the event to Maskloop, which trains by itself; returns its answer. Raises MaskloopError."""
        return self._ask("/webhook", {**data, "action": event})

    def _ask(self, path: str, body: dict[str, Any], *, seconds: float = SECONDS) -> dict[str, Any]:
        settings = get_settings()
        url = address(settings)
        if not (settings.home / FILE).exists():
            raise MaskloopError(
                f"there are no credentials in {settings.home}; set MASKLOOP_HOME to the home folder of the Maskloop "
                f"that runs at {url}"
            )
        credentials = load_credentials(settings.home)
        headers = {"Authorization": credentials.header, PROJECT_HEADER: str(self.project_id)}
        try:
            answer = httpx.post(url + path, json=body, headers=headers, timeout=seconds)
        except httpx.HTTPError as error:
            raise MaskloopError(
                f"Maskloop does not answer at {url}{path} ({type(error).__name__}: {error}); is `maskloop up` running, "
                "and MASKLOOP_PUBLIC_URL right?"
            ) from error
        if answer.is_error:
            raise MaskloopError(f"Maskloop at {url}{path} refused with {answer.status_code}: {answer.text[:500]}")
        taken: dict[str, Any] = answer.json()
        return taken


def address(settings: Settings) -> str:
    """Where the running Maskloop is asked."""
    if settings.public_url:
        return settings.resolved_public_url
    return f"http://{ANYWHERE.get(settings.host, settings.host)}:{settings.port}"
