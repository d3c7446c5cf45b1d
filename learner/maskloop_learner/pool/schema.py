"""The tables of the pool, for SQLite and PostgreSQL.

Times are aware UTC datetimes. Digests are lower-case hex sha256 of a blob in the store.
Uncertainties are in 0..1 (natural logarithm divided by ln 2).
"""

import re
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import JSON, DateTime, Dialect, ForeignKey, Index, TypeDecorator, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_UNHELD = re.compile("[\x00\ud800-\udfff]")


def utcnow() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime; SQLite forgets the zone, so UTC is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError(f"datetimes in the pool must be aware, got {value!r}")
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class String(TypeDecorator[str]):
    """A text. What JSON can carry and no database holds, zero characters and halves of surrogate pairs, is replaced.

    PostgreSQL keeps to the length, so there a longer text is cut: rather that than a project that stands still.
    """

    impl = sa.String
    cache_ok = True

    def __init__(self, length: int | None = None) -> None:
        """`length` in characters; None: any."""
        super().__init__(length)
        self.length = length

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        value = _UNHELD.sub("\ufffd", value)
        return value[: self.length] if dialect.name == "postgresql" else value


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {  # noqa: RUF012 - read by SQLAlchemy as a class attribute
        dict[str, Any]: JSON,
        list[Any]: JSON,
        dict[str, str]: JSON,
        datetime: UtcDateTime,
        str: String(),
    }


class Project(Base):
    """A Label Studio project that Maskloop serves."""

    __tablename__ = "projects"
    __table_args__ = (UniqueConstraint("ls_url", "ls_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    ls_url: Mapped[str] = mapped_column(String(500))
    """Origin of Label Studio without a trailing slash; its token is in the home folder, never here."""
    ls_id: Mapped[int]
    title: Mapped[str] = mapped_column(String(300), default="")
    label_config: Mapped[str] = mapped_column(default="")
    control: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What is served: {"controls": [{"kind", "from_name", "to_name", "data_key", "labels"}], "prompt_tags": [..],
    "labels": [..], "revision": how often the mask tags changed}."""
    prompts: Mapped[dict[str, str]] = mapped_column(default=dict)
    """Label -> template of its prompt; a plain text is a template."""
    sheet_digest: Mapped[str] = mapped_column(String(16), default="")
    """Of the prompt sheets that were read for its tasks; "" without any."""
    prompted_with: Mapped[str] = mapped_column(String(16), default="")
    """Digest of the rules by which the tasks' prompts were last worked out."""
    grouping: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What keeps images together (a patient, a case, a video): {"field": name in the task's data} or
    {"pattern": regular expression on the image's name, its first group counts}; without either each image is a group.
    "source": the field that says where an image comes from (a site, a scanner)."""
    grouped_with: Mapped[str] = mapped_column(String(16), default="")
    """Digest of the grouping by which the tasks' group keys were last worked out."""
    blind_share: Mapped[float] = mapped_column(default=0.0)
    """Share of the groups, 0..1, whose images are annotated without a prediction shown."""
    synced_at: Mapped[datetime | None]
    """Largest Label Studio `updated_at` that was taken in completely."""
    checked_at: Mapped[datetime | None]
    """When ids were last compared in full."""
    served_version: Mapped[str | None] = mapped_column(String(40))
    """The prediction version that Label Studio was last switched to."""
    previous_version: Mapped[str | None] = mapped_column(String(40))
    switched_at: Mapped[datetime | None]
    looked_at: Mapped[datetime | None]
    """When `sync` last went through this project without an error."""
    sync_error: Mapped[str | None]
    """Why `sync` could not go through this project; None when it could."""
    paused_at: Mapped[datetime | None]
    """Since when labels and the clock start no training, until a person resumes it; None: they do."""
    paused_by: Mapped[str] = mapped_column(String(200), default="")
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Image(Base):
    """The bytes of an image, once, whatever number of tasks show it."""

    __tablename__ = "images"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    width: Mapped[int]
    """Pixels as shown, after the EXIF orientation."""
    height: Mapped[int]
    format: Mapped[str] = mapped_column(String(20))
    size: Mapped[int]
    """Bytes."""
    phash: Mapped[str | None] = mapped_column(String(16))
    """Perceptual hash, 64 bits in hex, see `looks.Look`; "" for a blank image, None where it was not worked out yet."""
    thumbnail: Mapped[str | None] = mapped_column(String(512), deferred=True)
    """The same for the eye: 16 x 16 grey values in hex; None and "" as above."""
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Task(Base):
    """One image of a task of Label Studio: `part` is the field of the task's data that holds its address.

    `state` is one of new, ready, failed (then `error` says why).
    """

    __tablename__ = "tasks"
    __table_args__ = (UniqueConstraint("project_id", "ls_id", "part"), Index("ix_tasks_state", "project_id", "state"))

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"))
    ls_id: Mapped[int]
    part: Mapped[str] = mapped_column(String(200), default="")
    url: Mapped[str] = mapped_column(default="")
    """The image's address as it stands in the task's data."""
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    sheet_prompts: Mapped[dict[str, str]] = mapped_column(default=dict)
    """Label -> prompt from a prompt sheet."""
    typed_prompts: Mapped[dict[str, str]] = mapped_column(default=dict)
    """Label -> prompt that an annotator typed last."""
    prompts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Label -> {"text", "source", ..}: what the model is asked of this image; empty where that is what it is asked of
    all the project's images."""
    prompt_digest: Mapped[str] = mapped_column(String(16), default="")
    """Of the texts in `prompts`, see `PromptSet`; "" where that is empty."""
    group_key: Mapped[str] = mapped_column(String(200), default="")
    """What the image belongs to, by `Project.grouping`; "": a group of its own."""
    blind: Mapped[bool] = mapped_column(default=False)
    """Its annotator is shown no prediction, so that the label can be trusted to be a person's own. The same for all
    images of a task; decided when it is taken in, and never again once it is labelled."""
    state: Mapped[str] = mapped_column(String(10), default="new")
    error: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(default=0)
    retry_at: Mapped[datetime | None]
    image_digest: Mapped[str | None] = mapped_column(ForeignKey("images.digest"), index=True)
    deleted_at: Mapped[datetime | None]
    ls_updated_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Label(Base):
    """One version of one annotation. Rows are never changed but for `current`, and once for what was shown."""

    __tablename__ = "labels"
    __table_args__ = (
        UniqueConstraint("task_id", "ls_annotation_id", "version"),
        Index("ix_labels_current", "task_id", "current"),
        # What is left to be compared, of a hundred thousand.
        Index(
            "ix_labels_uncompared",
            "task_id",
            sqlite_where=text("shown IS NULL"),
            postgresql_where=text("shown IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("tasks.id"))
    ls_annotation_id: Mapped[int]
    version: Mapped[int] = mapped_column(default=1)
    current: Mapped[bool] = mapped_column(default=True)
    """True on the newest version of an annotation that still exists."""
    cancelled: Mapped[bool] = mapped_column(default=False)
    """The annotator skipped the task."""
    deleted: Mapped[bool] = mapped_column(default=False)
    """This version records that the annotation was deleted."""
    author: Mapped[str | None] = mapped_column(String(200))
    lead_time: Mapped[float | None]
    """Seconds."""
    parent_prediction: Mapped[int | None]
    """Id in Label Studio of the prediction that the annotator was shown."""
    masks: Mapped[dict[str, str]] = mapped_column(default=dict)
    """Label -> digest of a 0/255 PNG of the image's shown size; a label without a region is absent."""
    known: Mapped[list[Any] | None]
    """Labels that the annotator could draw: one of them without a mask is empty, any other unknown. None: all."""
    prompts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Label -> {"text", "source", ..}: what the model was asked of this image."""
    error: Mapped[str | None]
    """Why this version cannot be learnt from (for instance a mask of another size); else None."""
    batch_id: Mapped[int | None] = mapped_column(ForeignKey("batches.id"))
    """The batch that its task was in when the annotation was made; None: it was served outside any."""
    shown: Mapped[str | None] = mapped_column(String(10))
    """What its annotator found drawn, see `pool.showing.Shown`; None where it was not looked up yet."""
    shown_version: Mapped[str | None] = mapped_column(String(40))
    """The prediction version that was shown, or of a blind task would have been."""
    unedited: Mapped[bool | None]
    """Whether all masks are, pixel by pixel, what that version draws; None where there is nothing to compare with."""
    agreement: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Label -> Dice, 0..1, with what that version draws."""
    ls_updated_at: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Model(Base):
    """An immutable trained model."""

    __tablename__ = "models"

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), index=True)
    weights_digest: Mapped[str] = mapped_column(String(64))
    """Blob of kind `weights`: one safetensors file."""
    backbone: Mapped[str] = mapped_column(String(40))
    labels: Mapped[list[Any]] = mapped_column(default=list)
    snapshot_id: Mapped[int | None] = mapped_column(ForeignKey("snapshots.id"))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("models.id"))
    config: Mapped[dict[str, Any]] = mapped_column(default=dict)
    metrics: Mapped[dict[str, Any]] = mapped_column(default=dict)
    manifest_digest: Mapped[str | None] = mapped_column(String(64))
    """Blob of kind `manifests`: where the model comes from, word for word; None for models of earlier releases."""
    pruned_at: Mapped[datetime | None]
    """When its weights were removed from the store; its row and figures stay."""
    fault: Mapped[str | None]
    """Why it cannot serve (its weights are lost or were altered); None while nothing is known to be wrong."""
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Champion(Base):
    """Which model a project serves; changed by compare-and-set on `fence` only."""

    __tablename__ = "champions"

    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    version_id: Mapped[str] = mapped_column(ForeignKey("prediction_versions.id"))
    """The prediction version that should be served: the model with today's prompts and settings."""
    previous_model_id: Mapped[int | None] = mapped_column(ForeignKey("models.id"))
    fence: Mapped[int] = mapped_column(default=1)
    """Grows by one with every change."""
    pinned: Mapped[bool] = mapped_column(default=False)
    challenger_id: Mapped[int | None] = mapped_column(ForeignKey("models.id"))
    """A model in shadow: it has passed the gate, predicts newly labelled images beside the champion, and waits for a
    person's word."""
    challenger_since: Mapped[datetime | None]
    changed_at: Mapped[datetime] = mapped_column(default=utcnow)
    changed_by: Mapped[str] = mapped_column(String(200), default="")


class PredictionVersion(Base):
    """All that determines a mask; its id is Label Studio's `model_version`."""

    __tablename__ = "prediction_versions"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), index=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    config: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """See `predict.version.VersionConfig`."""
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Prediction(Base):
    """What a prediction version says of an image with some prompts. Written once, whole, with its scores."""

    __tablename__ = "predictions"
    __table_args__ = (UniqueConstraint("version_id", "image_digest", "prompt_digest"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[str] = mapped_column(ForeignKey("prediction_versions.id"))
    image_digest: Mapped[str] = mapped_column(ForeignKey("images.digest"))
    prompt_digest: Mapped[str] = mapped_column(String(16), default="")
    """As in `Task`; "" for the version's own prompts."""
    uncertainty: Mapped[float | None]
    """The task's score, see `Rank`; None when `error` is set."""
    error: Mapped[str | None]
    seconds: Mapped[float] = mapped_column(default=0.0)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Score(Base):
    """One label's mask and mean uncertainties within a prediction."""

    __tablename__ = "scores"
    __table_args__ = (UniqueConstraint("prediction_id", "label"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    prediction_id: Mapped[int] = mapped_column(ForeignKey("predictions.id"))
    label: Mapped[str] = mapped_column(String(200))
    prompt: Mapped[str] = mapped_column(default="")
    prompt_source: Mapped[str] = mapped_column(String(40), default="")
    """Where the prompt came from: template, field, sheet, annotator or default."""
    mask_digest: Mapped[str] = mapped_column(String(64))
    map_digest: Mapped[str | None] = mapped_column(String(64))
    """Blob of kind `maps`: the predictive entropy of every pixel, see `pool.maps`; None where none was kept."""
    area: Mapped[int] = mapped_column(default=0)
    """Pixels in the mask."""
    probability: Mapped[float] = mapped_column(default=0.0)
    """Mean probability inside the mask; 0 when it is empty."""
    predictive_entropy: Mapped[float]
    expected_entropy: Mapped[float]
    mutual_information: Mapped[float]
    variance: Mapped[float]
    aggregates: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Measure -> aggregation -> score, see `predict.aggregate`."""
    method: Mapped[str] = mapped_column(String(40))
    samples: Mapped[int]


class Rank(Base):
    """Where a prediction version places an image: written before its mask, often with fewer samples.

    All ranks of a version have one method and one number of samples: others could not be compared.
    """

    __tablename__ = "ranks"
    __table_args__ = (UniqueConstraint("version_id", "image_digest", "prompt_digest"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[str] = mapped_column(ForeignKey("prediction_versions.id"))
    image_digest: Mapped[str] = mapped_column(ForeignKey("images.digest"))
    prompt_digest: Mapped[str] = mapped_column(String(16), default="")
    uncertainty: Mapped[float]
    """The largest mean predictive entropy over the labels, 0..1."""
    aggregates: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Label -> measure -> aggregation -> score."""
    method: Mapped[str] = mapped_column(String(40))
    samples: Mapped[int]
    seconds: Mapped[float] = mapped_column(default=0.0)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class PromptSet(Base):
    """The prompts of images that are asked something of their own, once for every set of texts."""

    __tablename__ = "prompt_sets"

    digest: Mapped[str] = mapped_column(String(16), primary_key=True)
    prompts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Label -> {"text", "source", ..}; only these labels are predicted."""
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Push(Base):
    """A prediction as it stands in Label Studio. `task_id` is the first part of the task."""

    __tablename__ = "pushes"
    __table_args__ = (
        Index("ix_pushes_task", "task_id", "version_id"),
        # What stands in front, of a hundred thousand.
        Index("ix_pushes_score", "project_id", "version_id", "score"),
    )

    ls_prediction_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("tasks.id"))
    version_id: Mapped[str] = mapped_column(String(40))
    score: Mapped[float | None]
    """The serving score in Label Studio: 1 - uncertainty, or less in the open batch, see `select.order`."""
    gone_at: Mapped[datetime | None]
    """When it was deleted in Label Studio; the row stays, labels may name it as their parent."""
    stale: Mapped[str] = mapped_column(String(10), default="")
    """Why it is to be made anew, see `pushes.Why`; "" while it says what the pool says."""
    stale_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Snapshot(Base):
    """A frozen set of labels to learn from. `manifest` is a blob of kind `manifests`."""

    __tablename__ = "snapshots"

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), index=True)
    digest: Mapped[str] = mapped_column(String(64))
    label_ids: Mapped[list[Any]] = mapped_column(default=list)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Round(Base):
    """One attempt to train on a snapshot: queued, running, then promoted, shadow, rejected, failed or cancelled."""

    __tablename__ = "rounds"
    __table_args__ = (
        # One training per project at a time, whatever process believes what.
        Index(
            "ux_rounds_open",
            "project_id",
            unique=True,
            sqlite_where=text("state IN ('queued', 'running')"),
            postgresql_where=text("state IN ('queued', 'running')"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), index=True)
    snapshot_id: Mapped[int] = mapped_column(ForeignKey("snapshots.id"))
    cause: Mapped[str] = mapped_column(String(40))
    """labels, cron, button, cli or demo."""
    state: Mapped[str] = mapped_column(String(12), default="queued")
    attempts: Mapped[int] = mapped_column(default=0)
    """How often its job was started."""
    failures: Mapped[int] = mapped_column(default=0)
    """How many of these starts ended in an error; the others were killed, or are at work."""
    retry_at: Mapped[datetime | None]
    model_id: Mapped[int | None] = mapped_column(ForeignKey("models.id"))
    progress: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """{"step", "steps", "loss", "eta", "losses"} with eta in seconds; losses: [step, mean loss since the pair before],
    the first steps first."""
    reason: Mapped[str | None]
    """The gate's or the failure's words."""
    decision: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """The gate's verdict with all its figures, and who or what took it; empty before there is one."""
    holder: Mapped[str | None] = mapped_column(String(200))
    """The process that works on it: host, process id and a token of its own."""
    held_until: Mapped[datetime | None]
    """When its holder counts as gone unless it renews this."""
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class TrainRequest(Base):
    """A person's or a programme's wish to train; answered by a round."""

    __tablename__ = "train_requests"

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), index=True)
    cause: Mapped[str] = mapped_column(String(40))
    round_id: Mapped[int | None] = mapped_column(ForeignKey("rounds.id"))
    refused: Mapped[str | None]
    """Why no round could be made (for instance: no labels)."""
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Batch(Base):
    """A locked list of tasks to label next; `BatchItem` has the tasks, with the reason for each."""

    __tablename__ = "batches"
    __table_args__ = (
        # Label Studio serves one order: a project has one open batch.
        Index(
            "ux_batches_open",
            "project_id",
            unique=True,
            sqlite_where=text("state = 'open'"),
            postgresql_where=text("state = 'open'"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id"), index=True)
    number: Mapped[int] = mapped_column(default=0)
    """Within the project, from 1."""
    state: Mapped[str] = mapped_column(String(10), default="open")
    """open, closed or undone."""
    strategy: Mapped[str] = mapped_column(String(60))
    options: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What it was chosen with, beside the strategy: size, shares, caps."""
    seed: Mapped[int] = mapped_column(default=0)
    note: Mapped[str] = mapped_column(default="")
    """What was to be said of the choice: where it fell back, what it passed over; "" for nothing."""
    version_id: Mapped[str | None] = mapped_column(String(40))
    """The prediction version whose scores it was chosen by; None where no score counted."""
    ls_view_id: Mapped[int | None]
    """The tab of Label Studio's Data Manager that shows it."""
    created_by: Mapped[str] = mapped_column(String(200), default="")
    closed_at: Mapped[datetime | None]
    """When it was closed or undone."""
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class BatchItem(Base):
    """A task of a batch. `task_id` is the first part of the task."""

    __tablename__ = "batch_items"
    __table_args__ = (UniqueConstraint("batch_id", "task_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    batch_id: Mapped[int] = mapped_column(ForeignKey("batches.id"))
    task_id: Mapped[int] = mapped_column(ForeignKey("tasks.id"), index=True)
    position: Mapped[int]
    """From 1: the order in which it is served."""
    slot: Mapped[str] = mapped_column(String(20))
    """What it was chosen for: uncertain, diverse, typical or random."""
    score: Mapped[float | None]
    """What the strategy ranked it by."""
    reason: Mapped[str]
    figures: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """The reason as numbers: rank among the candidates, neighbours, group."""


class Embedding(Base):
    """Where an image lies among others: a vector of length 1, by which images are alike or not."""

    __tablename__ = "embeddings"

    image_digest: Mapped[str] = mapped_column(ForeignKey("images.digest"), primary_key=True)
    space: Mapped[str] = mapped_column(String(60), primary_key=True)
    """What made it; vectors of two spaces cannot be compared."""
    vector: Mapped[bytes]
    """Little-endian float16."""
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class Cursor(Base):
    """How far something has read the event log; rows of `events` up to `position` are done with."""

    __tablename__ = "cursors"

    name: Mapped[str] = mapped_column(String(60), primary_key=True)
    position: Mapped[int] = mapped_column(default=0)


class Event(Base):
    """Append-only log; the database refuses to change or delete a row."""

    __tablename__ = "events"
    # There is an event for every label; of most other kinds there are few.
    __table_args__ = (Index("ix_events_kind", "project_id", "kind", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    project_id: Mapped[int | None] = mapped_column(index=True)
    kind: Mapped[str] = mapped_column(String(60))
    subject: Mapped[str] = mapped_column(String(200), default="")
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    at: Mapped[datetime] = mapped_column(default=utcnow)
