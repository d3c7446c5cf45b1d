"""`LabelStudioMLBase` with the class surface of label-studio-ml 2.x, over state that all processes share."""

import json
import logging
from collections.abc import Callable
from typing import Any, ClassVar

from maskloop_backend.ml_base.files import access_token, is_remote_file
from maskloop_backend.ml_base.interface import local_path, parse_label_config, read_interface
from maskloop_backend.ml_base.labels import match_model_labels
from maskloop_backend.ml_base.registered import registered
from maskloop_backend.ml_base.state import MODEL_VERSION, State
from maskloop_backend.ml_base.versions import next_minor
from maskloop_learner.settings import get_settings

logger = logging.getLogger(__name__)

Tags = str | tuple[str, ...]
Filter = Callable[[str], bool] | None


class LabelStudioMLBase:
    """What a user subclasses: `setup`, `predict(tasks, context)` and `fit(event, data)`.

    An object belongs to one project of Label Studio. As in label-studio-ml 2.x a new one is made for every request
    and every event, so what must last goes through `set`, and heavy weights into the module or the class.
    """

    INITIAL_MODEL_VERSION: ClassVar[str] = "0.0.1"
    TRAIN_EVENTS: ClassVar[tuple[str, ...]] = (
        "ANNOTATION_CREATED",
        "ANNOTATION_UPDATED",
        "ANNOTATION_DELETED",
        "ANNOTATIONS_CREATED",
        "ANNOTATIONS_DELETED",
        "START_TRAINING",
    )
    """Events that reach `fit`; a subclass may name others."""
    REUSE: ClassVar[bool] = False
    """True: an object is kept and answers further requests, one at a time, until the project's state changes."""

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        self.project_id = str(project_id or "")
        self._state = State(get_settings().home, type(self).__name__)
        self._label_config: str | None = None
        self._interface: Any = None
        if label_config is not None:
            self.use_label_config(label_config)
        if not self.get(MODEL_VERSION):
            # A fit may set its version at this very moment, and that one counts.
            self._state.change(self.project_id, MODEL_VERSION, lambda now: now or self.INITIAL_MODEL_VERSION)
        self.setup()

    def setup(self) -> None:
        """For the subclass: runs at the end of construction, for instance to `set("model_version", ...)`."""

    def predict(self, tasks: list[dict[str, Any]], context: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        """For the subclass: one prediction per task, as a list or a ModelResponse. Default: what `predict_fn` gave.

        `tasks`: as Label Studio exports them. `context`: what the annotator drew or typed just now, or None.
        """
        function = registered("predict")
        return function(tasks, context, helper=self, **kwargs) if function else None

    def fit(self, event: str, data: dict[str, Any], **kwargs: Any) -> Any:
        """For the subclass: learn from an event; runs in the background, in order within a project.

        `event`: one of TRAIN_EVENTS. `data`: the payload of Label Studio's webhook. Default: what `update_fn` gave.
        """
        function = registered("fit")
        return function(event, data, helper=self, **kwargs) if function else None

    def process_event(self, event: str, data: dict[str, Any], job_id: str, additional_params: dict[str, Any]) -> Any:
        """Call `fit` when the event is one of TRAIN_EVENTS; returns what it returned."""
        return self.fit(event=event, data=data, job_id=job_id, **additional_params) if self.trains_on(event) else None

    @classmethod
    def trains_on(cls, event: str) -> bool:
        """Whether an event reaches `fit`."""
        return event in cls.TRAIN_EVENTS

    def get(self, key: str) -> str | None:
        """The value kept for this project, whichever process set it, or None."""
        return self._state.get(self.project_id, key)

    def set(self, key: str, value: str) -> None:
        """Keep a value for this project. Raises ValueError when it is not a string."""
        self._state.set(self.project_id, key, value)

    def has(self, key: str) -> bool:
        """Whether a value is kept under this key."""
        return self.get(key) is not None

    @property
    def model_version(self) -> str | None:
        """The version that predictions carry; change it with `set("model_version", ...)`."""
        return self.get(MODEL_VERSION)

    def bump_model_version(self) -> str:
        """Raise the version's second number, keep it and return it. Raises ValueError for one like "yolo"."""
        return self._state.change(self.project_id, MODEL_VERSION, next_minor)

    def set_extra_params(self, extra_params: Any) -> None:
        """Keep the parameters of Label Studio's backend settings: any JSON value, or its text."""
        self.set("extra_params", extra_params if isinstance(extra_params, str) else json.dumps(extra_params))

    @property
    def extra_params(self) -> Any:
        """The parameters of Label Studio's backend settings, {} when there are none. ValueError when not JSON."""
        text = self.get("extra_params")
        try:
            return json.loads(text) if text else {}
        except ValueError as error:
            raise ValueError(f"extra_params of project {self.project_id!r} are not JSON ({error}): {text!r}") from error

    def use_label_config(self, label_config: str) -> None:
        """Work with this label config and keep it for the project."""
        self._label_config, self._interface = label_config, None
        self.set("label_config", label_config)

    @property
    def label_config(self) -> str | None:
        """The label config this object was made with, else the project's last one, else None."""
        return self._label_config if self._label_config is not None else self.get("label_config")

    @property
    def parsed_label_config(self) -> dict[str, Any]:
        """Control tags by name: type, to_name, inputs, labels."""
        return parse_label_config(self._config())

    @property
    def label_interface(self) -> Any:
        """label-studio-sdk's LabelInterface of the label config. Raises MissingExtra, or ValueError without config."""
        if self._interface is None:
            self._interface = read_interface(self._config())
        return self._interface

    @label_interface.setter
    def label_interface(self, interface: Any) -> None:
        self._interface = interface

    def get_first_tag_occurence(
        self, control_type: Tags, object_type: Tags, name_filter: Filter = None, to_name_filter: Filter = None
    ) -> tuple[str, str, str]:
        """(from_name, to_name, data key) of the first control tag that matches. Raises ValueError when none does."""
        found: tuple[str, str, str] = self.label_interface.get_first_tag_occurence(
            control_type=control_type, object_type=object_type, name_filter=name_filter, to_name_filter=to_name_filter
        )
        return found

    def build_label_map(self, tag_name: str, names: list[str]) -> dict[str, str]:
        """The config's label for each of the model's `names`: by `predicted_values`, else by the name itself."""
        labels = self.label_interface.get_control(tag_name).labels_attrs or {}
        return match_model_labels({label: tag.attr.get("predicted_values", "") for label, tag in labels.items()}, names)

    def get_label_studio_access_token(self) -> str | None:
        """A token with which Label Studio gives files out now; a personal one is exchanged for a short-lived one."""
        return access_token(get_settings().home)

    def get_local_path(
        self,
        url: str,
        project_dir: str | None = None,
        ls_host: str | None = None,
        ls_access_token: str | None = None,
        task_id: int | None = None,
        **kwargs: Any,
    ) -> str:
        """Path of a local copy of a file of task data: uploaded, local storage, cloud storage or http(s).

        `task_id` is needed for cloud storage. Host and token: LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY.
        """
        token = ls_access_token or self.get_label_studio_access_token()
        return local_path(url, project_dir=project_dir, hostname=ls_host, access_token=token, task_id=task_id, **kwargs)

    def preload_task_data(self, task: dict[str, Any], value: Any = None, read_file: bool = True) -> Any:
        """`value` with every address of a file replaced by the file's text, or its path when not `read_file`."""
        if isinstance(value, dict):
            return {key: self.preload_task_data(task, item, read_file) for key, item in value.items()}
        if isinstance(value, list):
            return [self.preload_task_data(task, item, read_file) for item in value]
        if not isinstance(value, str) or not is_remote_file(value):
            return value
        path = self.get_local_path(url=value, task_id=task.get("id"))
        if not read_file:
            return path
        with open(path, encoding="utf-8") as file:
            return file.read()

    def _config(self) -> str:
        config = self.label_config
        if config is None:
            raise ValueError(f"project {self.project_id!r} has no label config yet; Label Studio sends it with /setup")
        return config
