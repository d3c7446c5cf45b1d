"""Everything that a report shows, read from the pool at one moment."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from markupsafe import Markup

from maskloop_backend.overview.failures import Failure, list_failures
from maskloop_backend.overview.happenings import Happening, read_happenings
from maskloop_backend.overview.models import Models, read_models
from maskloop_backend.overview.people import People, look_at_people
from maskloop_backend.overview.queues import Queues
from maskloop_backend.readiness import Readiness, readiness
from maskloop_backend.report.alarms import tell_alarms
from maskloop_backend.report.bought import Bought, find_bought
from maskloop_backend.report.charts import (
    draw_agreement,
    draw_calibration,
    draw_labels,
    draw_learning,
    draw_progress,
)
from maskloop_backend.report.coming import find_coming
from maskloop_backend.report.names import Names, hidden_names
from maskloop_backend.report.pictures import Shot, draw_shot
from maskloop_backend.report.progress import Progress, find_progress
from maskloop_backend.report.telling import tell_state, tell_steps
from maskloop_backend.report.weakness import Part, read_weakness
from maskloop_backend.web.dashboard.boards import Boards
from maskloop_backend.web.dashboard.colours import label_colours
from maskloop_backend.web.dashboard.thumbs import Thumbs
from maskloop_learner.evaluate.bias import RULES, Rules
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project, utcnow
from maskloop_learner.settings import Settings

MEGABYTE = 1 << 20
DAYS, EVENTS = 90, 15
"""Days back to which annotators' work is told, and events that are."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """One project at one moment."""

    at: datetime
    title: str
    anonymous: bool
    """Annotators are numbered, not named."""
    ready: Readiness
    progress: Progress
    models: Models
    coming: tuple[Shot, ...]
    colours: dict[str, str]
    """Label -> "#rrggbb", in the config's order."""

    weak: tuple[Part, ...]
    bought: tuple[Bought, ...]
    people: People
    happenings: tuple[Happening, ...]
    failures: tuple[Failure, ...]
    names: Names
    """What people are called; templates have each text that may name one hidden by it."""

    @property
    def state(self) -> str:
        """In a few sentences."""
        return tell_state(self.progress, self.models, self.ready)

    @property
    def steps(self) -> list[str]:
        """What to do next, the most pressing first."""
        return tell_steps(self.ready)

    @cached_property
    def charts(self) -> dict[str, Markup | None]:
        """By name; None where there is too little to draw."""
        champion = self.models.champion
        return {
            "progress": draw_progress(self.progress),
            "learning": draw_learning(self.models),
            "calibration": draw_calibration(champion) if champion is not None else None,
            "labels": draw_labels(self.people, self.names),
            "agreement": draw_agreement(self.people),
        }

    @cached_property
    def alarms(self) -> list[str]:
        """For automation bias, in sentences."""
        return tell_alarms(self.people, self.names)

    @property
    def rules(self) -> Rules:
        """From how many masks on something can be said of automation bias."""
        return RULES

    @property
    def is_few(self) -> bool:
        """Whether nobody was held against anything, since there are too few masks and blind images."""
        return not self.people.tested.total()


def gather(
    pool: Pool,
    settings: Settings,
    project_id: int,
    *,
    now: datetime | None = None,
    anonymous: bool = False,
    boards: Boards | None = None,
) -> Report:
    """Read and draw. Blocks. A picture that cannot be had is told of. `boards`: orders that are in memory already."""
    now = now or utcnow()
    with pool.read() as session:
        project = session.get_one(Project, project_id)
        colours = label_colours(project)
        ready = readiness(session, project, settings)
        progress = find_progress(session, project_id)
        models = read_models(session, project)
        weak = read_weakness(session, models)
        coming = find_coming(session, project, boards or Boards())
        bought = find_bought(session, project_id, models)
        people = look_at_people(session, project_id, days=DAYS, now=now)
        if not people.persons:  # it has been quiet for long: then all that there ever was
            people = look_at_people(session, project_id, days=None, now=now)
        happenings = read_happenings(session, project_id, limit=EVENTS)
        # Of the pool alone: what Redis says of its jobs is of this minute, and a report is read later.
        failures = list_failures(session, project, settings, Queues(), images_failed=ready.images_failed)
        names = hidden_names(session, project_id) if anonymous else Names()
    # Outside of the transaction: pictures may come from far away.
    thumbs = Thumbs(settings.home / "cache" / "thumbnails", settings.thumbnail_mb * MEGABYTE)
    return Report(
        at=now,
        title=project.title or f"Project {project.ls_id}",
        anonymous=anonymous,
        ready=ready,
        progress=progress,
        models=models,
        weak=weak,
        bought=tuple(bought),
        people=people,
        happenings=tuple(happenings),
        failures=tuple(failures),
        names=names,
        coming=tuple(draw_shot(pool.store, thumbs, each, colours) for each in coming),
        colours=colours,
    )
