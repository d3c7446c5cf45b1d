"""What the client returns: Label Studio's rows, reduced to what Maskloop uses. Times are aware, in UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


def moment(text: str) -> datetime:
    """Label Studio's time, e.g. 2026-11-23T12:40:05.474456Z, as an aware datetime."""
    return datetime.fromisoformat(text).astimezone(UTC)


@dataclass(frozen=True)
class Project:
    """A project's settings. `model_version` is "" when none is chosen."""

    id: int
    title: str
    label_config: str
    model_version: str
    sampling: str
    show_collab_predictions: bool
    evaluate_predictions_automatically: bool
    maximum_annotations: int
    annotator_evaluation: bool
    tasks: int

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> "Project":
        return cls(
            id=row["id"],
            title=row["title"],
            label_config=row["label_config"],
            model_version=row.get("model_version") or "",
            sampling=row.get("sampling") or "",
            show_collab_predictions=bool(row.get("show_collab_predictions")),
            evaluate_predictions_automatically=bool(row.get("evaluate_predictions_automatically")),
            maximum_annotations=int(row.get("maximum_annotations") or 1),
            annotator_evaluation=bool(row.get("annotator_evaluation_enabled")),
            tasks=int(row.get("task_number") or 0),
        )


@dataclass(frozen=True)
class AnnotationHead:
    """An annotation without its body."""

    id: int
    updated_at: datetime
    cancelled: bool

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> "AnnotationHead":
        return cls(row["id"], moment(row["updated_at"]), bool(row["was_cancelled"]))


@dataclass(frozen=True)
class TaskRow:
    """A task with the heads of all its annotations, skipped ones too. `data` is empty where it was not asked for."""

    id: int
    updated_at: datetime
    annotations: tuple[AnnotationHead, ...]
    data: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> "TaskRow":
        heads = tuple(AnnotationHead.read(head) for head in row["annotations"])
        return cls(row["id"], moment(row["updated_at"]), heads, row.get("data") or {})


@dataclass(frozen=True)
class Changes:
    """Tasks changed since a moment. All that was saved before `until` (Label Studio's clock) is among them.

    Take `until` less an overlap (a transaction may save late) as the next `since`.
    """

    tasks: list[TaskRow]
    until: datetime


@dataclass(frozen=True)
class Annotation:
    """One annotation with its regions. `author` is a user id, `lead_time` in seconds."""

    id: int
    task: int
    result: list[dict[str, Any]]
    author: int | None
    cancelled: bool
    ground_truth: bool
    lead_time: float | None
    parent_prediction: int | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> "Annotation":
        author = row.get("completed_by")
        return cls(
            id=row["id"],
            task=row["task"],
            result=row.get("result") or [],
            author=author["id"] if isinstance(author, dict) else author,
            cancelled=bool(row["was_cancelled"]),
            ground_truth=bool(row.get("ground_truth")),
            lead_time=row.get("lead_time"),
            parent_prediction=row.get("parent_prediction"),
            created_at=moment(row["created_at"]),
            updated_at=moment(row["updated_at"]),
        )


@dataclass(frozen=True)
class PredictionRow:
    """A prediction without its regions."""

    id: int
    task: int
    version: str
    score: float | None
    updated_at: datetime

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> "PredictionRow":
        return cls(row["id"], row["task"], row.get("model_version") or "", row.get("score"), moment(row["updated_at"]))


@dataclass(frozen=True)
class PredictionCount:
    """How many predictions a task has, and of which versions. More predictions than versions: duplicates."""

    total: int
    versions: frozenset[str]


@dataclass(frozen=True)
class Imported:
    """Outcome of a bulk import: rows created, and tasks that no longer exist (their rows were left out)."""

    created: int
    unknown_tasks: frozenset[int]


@dataclass(frozen=True)
class Backend:
    """An ML backend of a project. `state` is Label Studio's: Connected, Disconnected, Error, Training, Predicting."""

    id: int
    url: str
    title: str
    state: str
    error: str
    interactive: bool
    username: str
    basic_auth: bool

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> "Backend":
        return cls(
            id=row["id"],
            url=row["url"],
            title=row.get("title") or "",
            state=row.get("readable_state") or "",
            error=row.get("error_message") or "",
            interactive=bool(row.get("is_interactive")),
            username=row.get("basic_auth_user") or "",
            basic_auth=row.get("auth_method") == "BASIC_AUTH" and bool(row.get("basic_auth_pass_is_set")),
        )


@dataclass(frozen=True)
class Webhook:
    """A webhook of a project. The headers may hold credentials, so they stay out of `repr`."""

    id: int
    url: str
    active: bool
    all_actions: bool
    payload: bool
    actions: frozenset[str]
    headers: dict[str, str] = field(repr=False)

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> "Webhook":
        return cls(
            id=row["id"],
            url=row["url"],
            active=bool(row["is_active"]),
            all_actions=bool(row["send_for_all_actions"]),
            payload=bool(row["send_payload"]),
            actions=frozenset(row["actions"]),
            headers=dict(row["headers"] or {}),
        )
