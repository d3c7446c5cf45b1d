"""When the next training starts, and why it has not begun: in words, for the shell and the dashboard."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from maskloop_backend.readiness import count
from maskloop_learner.pool.schema import Project, utcnow
from maskloop_learner.settings import Settings
from maskloop_queue.triggers import Labels, active_round, count_labels, due_cause


@dataclass(frozen=True, kw_only=True)
class NextTraining:
    """What stands before a project's next training."""

    cause: str | None
    """Why one is due now: labels, cron, or who asked for it; None: none is."""
    why: str
    """The same in words, or what it waits for; begins in lower case, ends without a full stop."""
    labels_new: int
    """Since the last training."""
    labels_wanted: int
    """New labels that start one; 0: labels alone start none."""
    cron: str | None
    """Moments (UTC) at which one starts if there are new labels."""
    paused_at: datetime | None
    paused_by: str


def look_ahead(session: Session, project: Project, settings: Settings, labels: Labels | None = None) -> NextTraining:
    """What a project's next training waits for. `labels` as they were counted just now, if they were."""
    labels = labels or count_labels(session, project.id, settings.merge_rule)
    cause, why = _explain(session, project, settings, labels)
    return NextTraining(
        cause=cause,
        why=why,
        labels_new=len(labels.fresh),
        labels_wanted=settings.trigger_labels,
        cron=settings.trigger_cron or None,
        paused_at=project.paused_at,
        paused_by=project.paused_by,
    )


def _explain(session: Session, project: Project, settings: Settings, labels: Labels) -> tuple[str | None, str]:
    fresh = len(labels.fresh)
    if (running := active_round(session, project.id)) is not None:
        return None, f"round {running.id} is {running.state}: one training at a time"
    cause = due_cause(session, project, settings, now=utcnow(), labels=labels)
    if cause == "labels":
        return cause, f"{fresh} new labels, and {settings.trigger_labels} start a training"
    if cause == "cron":
        return cause, f"{count(fresh, 'new label')}, and the schedule `{settings.trigger_cron}` (UTC) has come"
    if cause is not None:
        return cause, f"somebody asked for it ({cause})"
    if project.paused_at is not None:
        return None, (
            f"{tell_pause(project)}: {count(fresh, 'new label')}, and neither labels nor the clock start a training; "
            "`maskloop train` does, and `maskloop resume` ends the pause"
        )
    if settings.trigger_labels and fresh >= settings.trigger_labels:
        quiet, most = settings.trigger_quiet, settings.trigger_max_wait
        return None, (
            f"{fresh} new labels are enough, and the training starts when none has come for {quiet:g} s, "
            f"after {most:g} s at the latest"
        )
    ways = [f"{settings.trigger_labels} start a training"] if settings.trigger_labels else []
    ways += [f"the next comes at `{settings.trigger_cron}` (UTC)"] if settings.trigger_cron else []
    said = "; ".join(ways) or "labels alone start no training"
    return None, f"nothing is due: {count(fresh, 'new label')}, {said}; `maskloop train` starts one"


def tell_pause(project: Project) -> str:
    """Since when the schedule is paused, and by whom."""
    since = f" since {project.paused_at:%Y-%m-%d %H:%M} UTC" if project.paused_at else ""
    return f"the schedule is paused{since}" + (f" by {project.paused_by}" if project.paused_by else "")
