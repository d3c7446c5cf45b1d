"""Everything that a report shows, read from the pool at one moment."""

from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from maskloop_backend.overview.models import Models, read_models
from maskloop_backend.readiness import Readiness, readiness
from maskloop_backend.report.charts import draw_learning, draw_progress
from maskloop_backend.report.coming import find_coming
from maskloop_backend.report.pictures import Shot, draw_shot
from maskloop_backend.report.progress import Progress, find_progress
from maskloop_backend.report.telling import tell_state
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

    @property
    def state(self) -> str:
        """In a few sentences."""
        return tell_state(self.progress, self.models, self.ready)

    @property
    def warnings(self) -> list[str]:
        """What people should know before they read on."""
        return [f"{need.what}." for need in self.ready.needs if need.blocks]

    @property
    def pace(self) -> str:
        return ""

    @property
    def contents(self) -> list[tuple[str, str]]:
        return [("progress", "Progress"), ("model", "Model"), ("coming", "What comes next")]

    @property
    def charts(self) -> dict[str, Markup | None]:
        """By name; None where there is too little to draw."""
        return {"progress": draw_progress(self.progress), "learning": draw_learning(self.models)}


def gather(pool: Pool, settings: Settings, project_id: int, *, now: datetime | None, anonymous: bool) -> Report:
    """Read and draw. Blocks. Raises StoreDown never: a picture that cannot be had is told of."""
    with pool.read() as session:
        project = session.get_one(Project, project_id)
        colours = label_colours(project)
        ready = readiness(session, project, settings)
        progress = find_progress(session, project_id)
        models = read_models(session, project)
        coming = find_coming(session, project)
    # Outside of the transaction: pictures may come from far away.
    thumbs = Thumbs(settings.home / "cache" / "thumbnails", settings.thumbnail_mb * MEGABYTE)
    return Report(
        at=now or utcnow(),
        title=project.title or f"Project {project.ls_id}",
        anonymous=anonymous,
        ready=ready,
        progress=progress,
        models=models,
        coming=tuple(draw_shot(pool.store, thumbs, each, colours) for each in coming),
        colours=colours,
    )
