"""Everything that a report shows, read from the pool at one moment."""

from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from maskloop_backend.overview.models import Models, read_models
from maskloop_backend.readiness import Readiness, readiness
from maskloop_backend.report.charts import draw_calibration, draw_learning, draw_progress
from maskloop_backend.report.coming import find_coming
from maskloop_backend.report.happened import Broken, Happening, find_broken, find_happenings
from maskloop_backend.report.names import Names, hidden_names
from maskloop_backend.report.pictures import Shot, draw_shot
from maskloop_backend.report.progress import Progress, find_progress
from maskloop_backend.report.telling import tell_state, tell_steps
from maskloop_backend.report.weakness import Part, read_weakness
from maskloop_backend.web.dashboard.colours import label_colours
from maskloop_backend.web.dashboard.thumbs import Thumbs
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.schema import Project, utcnow
from maskloop_learner.settings import Settings

MEGABYTE = 1 << 20


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
    happenings: tuple[Happening, ...]
    broken: tuple[Broken, ...]
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

    @property
    def charts(self) -> dict[str, Markup | None]:
        """By name; None where there is too little to draw."""
        champion = self.models.champion
        return {
            "progress": draw_progress(self.progress),
            "learning": draw_learning(self.models),
            "calibration": draw_calibration(champion) if champion is not None else None,
        }


def gather(pool: Pool, settings: Settings, project_id: int, *, now: datetime | None, anonymous: bool) -> Report:
    """Read and draw. Blocks. A picture that cannot be had is told of."""
    with pool.read() as session:
        project = session.get_one(Project, project_id)
        colours = label_colours(project)
        ready = readiness(session, project, settings)
        progress = find_progress(session, project_id)
        models = read_models(session, project)
        weak = read_weakness(session, models)
        coming = find_coming(session, project)
        happenings = find_happenings(session, project_id)
        broken = find_broken(session, project_id)
        names = hidden_names(session, project_id) if anonymous else Names()
    # Outside of the transaction: pictures may come from far away.
    thumbs = Thumbs(settings.home / "cache" / "thumbnails", settings.thumbnail_mb * MEGABYTE)
    return Report(
        at=now or utcnow(),
        title=project.title or f"Project {project.ls_id}",
        anonymous=anonymous,
        ready=ready,
        progress=progress,
        models=models,
        weak=weak,
        happenings=tuple(happenings),
        broken=tuple(broken),
        names=names,
        coming=tuple(draw_shot(pool.store, thumbs, each, colours) for each in coming),
        colours=colours,
    )
