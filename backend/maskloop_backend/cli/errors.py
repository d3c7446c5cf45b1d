"""Errors that a command shows as one line instead of a traceback."""

from maskloop_backend.alerts import AlertError
from maskloop_backend.backup.content import BackupError
from maskloop_backend.cancelling import NothingToCancel
from maskloop_backend.credentials import CredentialsError
from maskloop_backend.demo.slices import DemoError
from maskloop_backend.fetch import FetchError
from maskloop_backend.labelstudio.client import LabelStudioError
from maskloop_backend.labelstudio.config import ConfigError
from maskloop_backend.labelstudio.tokens import TokenError
from maskloop_backend.report.writing import ReportError
from maskloop_backend.services import PortBusy
from maskloop_backend.supervisor import HomeBusy
from maskloop_backend.sync.loop import AlreadyRunning
from maskloop_learner.model.backbones import BackboneError
from maskloop_learner.pool.batches import BatchError
from maskloop_learner.pool.database import DatabaseError
from maskloop_learner.pool.groups import GroupingError
from maskloop_learner.pool.merging import MergeError
from maskloop_learner.pool.store import StoreError
from maskloop_learner.prompts.template import TemplateError
from maskloop_learner.select.options import ChoosingError
from maskloop_learner.train.registry import ChampionConflict, ModelUnusable, NoPreviousModel
from maskloop_queue.ranking import ModelBroken
from maskloop_queue.valkey import ValkeyError


class CommandError(RuntimeError):
    """What a person typed cannot be done; the message says why and what to do."""


EXPECTED: tuple[type[Exception], ...] = (
    AlertError,
    AlreadyRunning,
    BackboneError,
    BackupError,
    BatchError,
    ChoosingError,
    ChampionConflict,
    CommandError,
    ConfigError,
    CredentialsError,
    DatabaseError,
    DemoError,
    FetchError,
    GroupingError,
    HomeBusy,
    LabelStudioError,
    MergeError,
    ModelBroken,
    ModelUnusable,
    NoPreviousModel,
    NothingToCancel,
    PortBusy,
    ReportError,
    StoreError,
    TemplateError,
    TokenError,
    ValkeyError,
)
