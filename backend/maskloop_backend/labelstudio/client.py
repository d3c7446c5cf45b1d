"""The client of Label Studio: everything Maskloop asks of it, typed, and nothing else.

It speaks HTTP itself: label-studio-sdk takes 1.4 s and 80 MB more to import, lacks half of these calls (lists
without bodies, locks, bulk pushes) and loses a sub-path when it renews a token.
"""

from maskloop_backend.labelstudio.backends import Backends
from maskloop_backend.labelstudio.errors import LabelStudioError
from maskloop_backend.labelstudio.records import (
    Annotation,
    AnnotationHead,
    Backend,
    Changes,
    Imported,
    PredictionCount,
    PredictionRow,
    Project,
    TaskRow,
    Webhook,
)

__all__ = [
    "Annotation",
    "AnnotationHead",
    "Backend",
    "Changes",
    "Imported",
    "LabelStudio",
    "LabelStudioError",
    "PredictionCount",
    "PredictionRow",
    "Project",
    "TaskRow",
    "Webhook",
]


class LabelStudio(Backends):
    """`LabelStudio(url, token)`: one Label Studio (a sub-path is fine) and a personal or legacy token.

    Every call raises LabelStudioError, which says what to do. Construction raises TokenError for an address or
    a token that cannot be one, and calls nothing.
    """
