"""The report's page: everything that is gathered, put into one template with its styles and pictures."""

from datetime import datetime
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from maskloop_backend.report.gathering import Report, gather
from maskloop_backend.report.pictures import as_address
from maskloop_backend.report.telling import seconds
from maskloop_backend.report.writing import GENERATOR
from maskloop_backend.web.dashboard.boards import Boards
from maskloop_backend.web.dashboard.shell import RELEASE, STATIC
from maskloop_backend.web.dashboard.words import FILTERS
from maskloop_learner.pool.pool import Pool
from maskloop_learner.settings import Settings

TEMPLATES = Environment(
    loader=PackageLoader("maskloop_backend.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters |= FILTERS | {"seconds": seconds}
STYLE = STATIC["dashboard.css"].decode() + files("maskloop_backend.report").joinpath("report.css").read_text()
"""The dashboard's style and what is the report's own, as one text: nothing is loaded."""
ICON = STATIC["icon.svg"]


def make_report(
    pool: Pool,
    settings: Settings,
    project_id: int,
    *,
    now: datetime | None = None,
    anonymous: bool = False,
    boards: Boards | None = None,
) -> str:
    """The report of a project (its id in the pool) as the text of an HTML file. Blocks on the pool and draws.

    now: the moment that it speaks of. anonymous: annotators are numbered, not named. boards: orders of images that are
    in memory already.
    """
    return draw_page(gather(pool, settings, project_id, now=now, anonymous=anonymous, boards=boards))


def draw_page(report: Report) -> str:
    """The file's text. What people called things is shown as it is, never run."""
    return TEMPLATES.get_template("report.html").render(
        report=report,
        hide=report.names.hide,
        generator=f"{GENERATOR} {RELEASE}",
        release=RELEASE,
        style=Markup(STYLE),  # two files of this package
        icon=as_address(ICON, "image/svg+xml"),
    )
