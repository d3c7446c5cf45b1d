"""Every setting of an installation: one typed table, read from MASKLOOP_* environment variables.

Each field's description is its documentation; docs/settings.md is tested against this table. MASKLOOP_X_FILE names a
file that holds the value of X, as containers are given their secrets.
"""

import json
import os
from datetime import UTC, datetime
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from croniter import CroniterError, croniter
from platformdirs import user_data_path
from pydantic import Field, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from maskloop_learner.hosts import Hosts

CORES = os.cpu_count() or 1
Threads = Annotated[int, Field(ge=1, le=1024)]
Modality = Literal["general", "brain_mri", "ultrasound", "xray", "ct", "endoscopy", "dermoscopy", "microscopy", "none"]


PREFIX = "MASKLOOP_"


SECRET = frozenset({"database_url", "store_options", "redis_url"})
"""Settings that hold passwords: no message repeats them."""


class SettingsError(ValueError):
    """A setting's file cannot be read, or contradicts its variable; the message names both."""


class FileSource(PydanticBaseSettingsSource):
    """Settings whose value stands in the file that MASKLOOP_X_FILE names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The file's text without blanks around it; None where no file is named. Raises SettingsError."""
        variable = f"{PREFIX}{field_name.upper()}"
        named = os.environ.get(f"{variable}_FILE")
        if not named:
            return None, field_name, False
        if os.environ.get(variable):
            raise SettingsError(f"{variable} and {variable}_FILE are both set; keep one of them")
        try:
            value = Path(named).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise SettingsError(f"{variable}_FILE names {named!r}, which cannot be read: {reason}") from error
        if not value:
            raise SettingsError(f"{variable}_FILE names {named!r}, which is empty")
        return value, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Field -> value, for those that have a file."""
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


class Settings(BaseSettings):
    """Settings of one installation. The environment wins over the default; a bad value names its variable."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore")

    home: Path = Field(
        default_factory=lambda: user_data_path("maskloop"),
        description="Folder with all state of this installation: database, store, Valkey, logs, demo.",
    )
    database_url: str | None = Field(
        None,
        repr=False,
        description="URL of the pool, `postgresql://user:password@host/database`; unset: SQLite in the home folder.",
    )
    store_url: str | None = Field(
        None,
        description="URL of the store of images, masks and weights, `s3://bucket/folder` or any that fsspec opens; "
        "unset: a folder in home.",
    )
    store_options: str | None = Field(
        None,
        repr=False,
        description='JSON object of options for the store\'s library, e.g. `{"endpoint": "http://minio:9000"}`.',
    )
    redis_url: str | None = Field(
        None,
        repr=False,
        description="Redis or Valkey URL; unset: an embedded Valkey on loopback, started by `maskloop up`.",
    )
    host: str = Field("127.0.0.1", description="Address the web process listens on.")
    port: int = Field(9090, ge=1, le=65535, description="Port the web process listens on.")
    public_url: str | None = Field(
        None, description="URL under which Label Studio reaches the web process; unset: http://host:port."
    )
    browser_url: str | None = Field(
        None,
        description="URL under which annotators' browsers reach the web process, for heat maps in Label Studio; unset: "
        "as MASKLOOP_PUBLIC_URL.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least level of message that is logged."
    )
    backbone: str = Field("nano", description="Backbone of newly trained models.")
    device: str = Field("auto", description="Torch device of the workers: auto, cpu, cuda, cuda:1, ...")
    gpu_threads: Threads = Field(
        max(1, CORES // 2), description="CPU threads of one GPU worker; keep it below the number of cores."
    )
    training_threads: Threads = Field(
        max(1, CORES - max(1, CORES // 2)), description="CPU threads of a training, which runs at nice 10."
    )
    training_share: float = Field(
        0.3,
        gt=0,
        le=1,
        description="Share of the time that a training works for at least when predictions that people wait for never "
        "end; it stands still meanwhile. 1: it gives way to nobody.",
    )
    gpu_workers: int = Field(1, ge=0, le=64, description="GPU workers that `maskloop up` starts on this machine.")
    training_workers: int = Field(
        1, ge=0, le=8, description="Training workers that `maskloop up` starts on this machine."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "fp32", description="Precision of matrix products: fp32, bf16, or auto: bf16 where the hardware is made for it."
    )
    warm_models_mb: int = Field(
        2048,
        ge=0,
        description="Memory for models that a GPU worker keeps ready, in MB; the least recently used leave it first.",
    )
    samples: int = Field(30, ge=1, le=1000, description="Monte-Carlo samples S per prediction.")
    cheap_ranking: bool = Field(
        True,
        description="Rank images with fewer samples where a model's calibration has shown the order to stay the same.",
    )
    calibration_images: int = Field(
        50, ge=0, description="Images on which each new model's ranking is compared with its full sampling; 0: none."
    )
    threshold: float = Field(
        0.5, gt=0, lt=1, description="A pixel is in the mask when its mean probability is above this."
    )
    min_speck_area: int = Field(
        16, ge=0, description="Connected parts of a mask smaller than this many pixels are removed; 0: none."
    )
    max_hole_area: int = Field(
        16, ge=0, description="Holes of a mask smaller than this many pixels are filled; 0: none."
    )
    max_image_megapixels: float = Field(
        100.0, gt=0, description="Larger images are refused with a reason, before they are decoded."
    )
    max_image_megabytes: float = Field(512.0, gt=0, description="Larger image files are refused with a reason.")
    image_hosts: str | None = Field(
        None,
        description="Image servers inside the network that tasks may name, comma separated `host` (ports 80 and 443) "
        "or `host:port`, e.g. `minio:9000,pacs.hospital.lan`; they are asked without a token. Others are refused.",
    )
    predict_deadline: float = Field(
        60.0,
        gt=0,
        lt=100,
        description="Seconds /predict waits for images not yet scored (Label Studio gives up at 100).",
    )
    sync_interval: float = Field(
        15.0,
        gt=0,
        description="Seconds between two looks at Label Studio when no webhook asks for one sooner.",
    )
    full_check_interval: float = Field(
        600.0, gt=0, description="Seconds between two complete comparisons of ids with Label Studio."
    )
    trigger_labels: int = Field(
        10, ge=0, description="A training starts by itself after this many new or changed labels; 0: never."
    )
    trigger_quiet: float = Field(
        60.0, ge=0, description="Seconds without a new label that such a training waits for, so that it takes in more."
    )
    trigger_max_wait: float = Field(
        900.0, ge=0, description="Seconds for which new labels may put such a training off, however steadily they come."
    )
    trigger_cron: str | None = Field(
        None,
        description="Cron expression (UTC) at which a training starts if there are new labels, e.g. `0 3 * * *`.",
    )
    train_steps: int = Field(300, ge=1, description="Optimizer steps of one training.")
    train_batch: int = Field(4, ge=1, description="Images per optimizer step.")
    train_seed: int = Field(0, ge=0, description="Seed of a training: weights, order and augmentation.")
    prompt_dropout: float = Field(
        0.3,
        ge=0,
        le=1,
        description="How often a training asks by less than an image's prompt, where that has parts to leave out.",
    )
    train_start: Literal["base", "champion"] = Field(
        "base",
        description="What a training starts from: base, the backbone's weights and all labels alike, or champion, the "
        "served model, with its old labels replayed beside the new ones.",
    )
    replay_share: float = Field(
        0.5, ge=0, le=1, description="Share of a batch that is of old labels when a training starts from the champion."
    )
    early_stopping: int = Field(
        0,
        ge=0,
        description="A training holds out 15 % of its images, looks at them ten times in its second half and ends "
        "after this many looks without a better one, with the best weights; 0: it learns from all, for all its steps.",
    )
    augmentation: Modality = Field(
        "general",
        description="How training changes images at random: general, brain_mri, ultrasound, xray, ct, endoscopy, "
        "dermoscopy, microscopy or none. Prompts that name a side turn mirroring off.",
    )
    training_gpus: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes of one training on its machine (torchrun), one a GPU, or all on the CPU; each takes its "
        "share of every batch.",
    )
    checkpoint_steps: int = Field(50, ge=1, description="Optimizer steps between two resumable checkpoints.")
    validation_share: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="Share of the labelled images kept out of training for the gate, as nearly as whole groups allow.",
    )
    merge_rule: Literal["latest", "majority", "staple"] = Field(
        "latest",
        description="How several annotators' masks of one image become one: the newest annotation, the pixels that "
        "most have drawn, or STAPLE (needs `pip install 'maskloop[staple]'`).",
    )
    near_duplicates: Literal["join", "report"] = Field(
        "join",
        description="Pictures that are nearly one: kept on one side of the split with their groups, or only reported.",
    )
    gate_margin: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="Dice by which a challenger may be below the champion: the lower bound of the difference must be "
        "above minus this.",
    )
    gate_confidence: float = Field(0.95, gt=0.5, lt=1, description="One-sided confidence of that lower bound.")
    gate_slice_margin: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Dice by which a challenger may be below the champion on a label, size, source or on empty images.",
    )
    gate_slice_images: int = Field(
        20, ge=1, description="Validation images with which such a slice counts; smaller ones are reported only."
    )
    gate_calibration_margin: float = Field(
        0.03, ge=0, le=1, description="By how much a challenger's calibration error may be above the champion's."
    )
    gate_min_images: int = Field(
        30, ge=1, description="Validation images with which a challenger is promoted without a person."
    )
    gate_allow_few: bool = Field(
        False, description="With fewer images mean Dice alone decides; else a challenger then waits for a person."
    )
    gate_mode: Literal["automatic", "shadow"] = Field(
        "automatic",
        description="automatic: what passes the gate serves; shadow: it waits for `maskloop models promote`.",
    )
    retention_hours: float = Field(
        24.0,
        ge=0,
        description="Hours before predictions older than the previous version may leave Label Studio.",
    )
    keep_predictions_days: float = Field(
        90.0,
        ge=0,
        description="Days after which predictions of versions that nobody needs any more leave the pool; 0: never.",
    )
    keep_models: int = Field(
        50,
        ge=0,
        description="Models of a project whose weights are kept, the newest; what serves, served before, is in shadow "
        "or is built on by a training stays whatever its age. 0: all.",
    )
    keep_maps: bool = Field(
        True,
        description="Keep with each prediction how unsure the model is of every pixel, about 20 kB a label: the heat "
        "maps of the dashboard and of the annotator's view.",
    )
    thumbnail_mb: int = Field(
        256, ge=0, description="Disk space for the dashboard's small pictures, in MB; the least recently used go first."
    )
    min_free_mb: int = Field(
        1024,
        ge=0,
        description="Free disk space, in MB, below which no training runs; below a quarter of it no image is fetched.",
    )
    alert_url: str | None = Field(
        None,
        description="Address to which alerts are posted as JSON with a `text`, as Slack, Mattermost and Teams take it.",
    )
    alert_command: str | None = Field(
        None,
        description="Command that gets each alert on its standard input, e.g. `mail -s Maskloop ops@example.org`.",
    )
    alert_minutes: float = Field(
        15.0,
        gt=0,
        description="Minutes for which a project must fail to be synchronised, or a queue to have no worker, "
        "before an alert says so.",
    )
    worker_lease: float = Field(
        30.0, ge=1, description="Seconds without progress after which a worker's job is given to another."
    )
    hang_timeout: float = Field(
        180.0, ge=1, description="Seconds without a sign of life after which the supervisor kills a worker."
    )
    label_studio: str | None = Field(
        None,
        description="Path of the `label-studio` program of its own virtual environment, for `maskloop demo`.",
    )
    label_studio_port: int = Field(8080, ge=1, le=65535, description="Port of the demo's Label Studio.")

    @field_validator("merge_rule")
    @classmethod
    def _check_staple(cls, rule: str) -> str:
        if rule == "staple" and find_spec("SimpleITK") is None:
            raise ValueError("merging by staple needs SimpleITK: pip install 'maskloop[staple]'")
        return rule

    @field_validator("image_hosts")
    @classmethod
    def _check_hosts(cls, text: str | None) -> str | None:
        Hosts.parse(text or "")
        return text

    @field_validator("store_options")
    @classmethod
    def _check_options(cls, text: str | None) -> str | None:
        try:
            options = json.loads(text) if text else {}
        except ValueError as error:
            raise ValueError(f"not JSON ({error})") from error
        if not isinstance(options, dict):
            raise ValueError('must be a JSON object such as {"endpoint": "http://minio:9000"}')
        return text

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What code gives wins, then the environment, then files that the environment names."""
        return init_settings, env_settings, FileSource(settings_cls)

    @property
    def resolved_store_options(self) -> dict[str, Any]:
        """The options of the store's library."""
        found: dict[str, Any] = json.loads(self.store_options) if self.store_options else {}
        return found

    @field_validator("trigger_cron")
    @classmethod
    def _check_cron(cls, text: str | None) -> str | None:
        if text is None or not text.strip():
            return None
        try:
            croniter(text, datetime(2026, 1, 1, tzinfo=UTC)).get_next(datetime)
        except CroniterError as error:
            raise ValueError(f"not a cron expression that has a moment: {error}; write e.g. `0 3 * * *`") from error
        return text

    @property
    def named_image_hosts(self) -> Hosts:
        """The image servers inside the network that may be read."""
        return Hosts.parse(self.image_hosts or "")

    @property
    def resolved_database_url(self) -> str:
        """The pool's SQLAlchemy URL."""
        return self.database_url or f"sqlite:///{self.home / 'maskloop.db'}"

    @property
    def resolved_store_url(self) -> str:
        """The store's fsspec URL."""
        folder = (self.home / "store").absolute()
        # fsspec does not undo the escapes of a file URL; where earlier releases followed it, their folder stays.
        escaped = folder.as_uri()
        earlier = Path(escaped.removeprefix("file://"))
        return self.store_url or (escaped if earlier.exists() else f"file://{folder}")

    @property
    def bases_folder(self) -> Path:
        """Where the frozen towers of the published backbones are kept."""
        return self.home / "backbones"

    @property
    def resolved_public_url(self) -> str:
        """The URL under which Label Studio reaches the web process, without a trailing slash."""
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")

    @property
    def resolved_browser_url(self) -> str:
        """The URL under which browsers reach the web process, without a trailing slash."""
        return (self.browser_url or self.resolved_public_url).rstrip("/")


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Read the environment once. Raises pydantic's ValidationError naming the variable and the value."""
    settings = Settings()
    settings.home = settings.home.expanduser().absolute()
    return settings
