"""The page of annotators: what they did, how much the model helps them, and who leaves its masks too readily."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date

from fastapi import APIRouter, Request
from starlette.responses import Response

from maskloop_backend.overview.annotations import UNKNOWN
from maskloop_backend.overview.people import FEWEST, People, Person, look_at_people
from maskloop_backend.web.dashboard.colours import label_colours
from maskloop_backend.web.dashboard.desk import Desk, Entry
from maskloop_backend.web.errors import WebError
from maskloop_learner.evaluate.bias import GOOD_ENOUGH, RULES
from maskloop_learner.evaluate.spread import Spread
from maskloop_learner.pool.groups import LARGEST_BLIND_SHARE
from maskloop_learner.pool.schema import Project

ENTRY = Entry("Annotators", "/annotators")
PERIODS: dict[str, int | None] = {"7": 7, "30": 30, "90": 90, "365": 365, "all": None}
DEFAULT = "90"
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6d31")
"""Okabe and Ito's without their yellow, which is lost on white."""
OTHERS = "#7d8794"
COLUMNS = (
    "annotator", "labels", "skipped", "counted_times", "seconds_median", "seconds_lower_quartile",
    "seconds_upper_quartile", "lead_time_zero_or_missing", "left_unedited", "edited", "share_unedited",
    "seconds_unedited", "seconds_edited", "blind", "seconds_blind", "without_mask", "shown_unknown", "dice_median",
    "dice_lower_quartile", "dice_upper_quartile", "not_compared_yet", "alarms",
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A day or a week of the chart: its labels from below, by colour."""

    day: date
    count: int
    parts: list[tuple[str, str, int]]
    """Colour, name, labels."""


def make_router(desk: Desk) -> APIRouter:
    """The routes /annotators and /annotators.csv."""
    router = APIRouter()

    def pick(request: Request) -> tuple[list[Project], Project | None, str]:
        projects = desk.projects()
        period = request.query_params.get("period") or DEFAULT
        if period not in PERIODS:
            raise WebError(400, "there is no such period", period, fix=f"It is one of {', '.join(PERIODS)} (days).")
        return projects, desk.pick(projects, request.query_params.get("project")), period

    @router.get("/annotators")
    async def annotators(request: Request) -> Response:
        def make() -> Response:
            projects, project, period = pick(request)
            people = read(desk, project, period) if project is not None else None
            colours = colours_of(people) if people is not None else {}
            return desk.show(
                request,
                "annotators.html",
                entry=ENTRY,
                projects=projects,
                project=project,
                people=people,
                period=period,
                periods=PERIODS,
                colours=colours,
                columns=list(make_columns(people, colours)) if people is not None else [],
                label_colours=label_colours(project) if project is not None else {},
                rules=RULES,
                good_enough=GOOD_ENOUGH,
                fewest=FEWEST,
                more_blind=f"{raise_share(people.blind_share):g}" if people is not None else "",
            )

        return await desk.threads.run(make)

    @router.get("/annotators.csv")
    async def as_csv(request: Request) -> Response:
        def make() -> Response:
            _, project, period = pick(request)
            if project is None:
                raise WebError(404, "no project is connected yet", fix="Run `maskloop connect` or `maskloop demo`.")
            name = f"annotators-{project.ls_id}-{period}.csv"
            headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
            return Response(write_csv(read(desk, project, period)), media_type="text/csv", headers=headers)

        return await desk.threads.run(make)

    return router


def read(desk: Desk, project: Project, period: str) -> People:
    """What the project's annotators did in a period of PERIODS."""
    with desk.pool.read() as session:
        return look_at_people(session, project.id, days=PERIODS[period])


def colours_of(people: People) -> dict[str, str]:
    """Annotator -> colour; who labelled least share the last one."""
    names = [person.name for person in people.persons if person.labels]
    return {name: COLOURS[n] if n < len(COLOURS) else OTHERS for n, name in enumerate(names)}


def make_columns(people: People, colours: Mapping[str, str]) -> Iterator[Column]:
    """The chart of labels per day, the oldest first."""
    for day, counts in sorted(people.by_day.items()):
        parts = Counter[tuple[str, str]]()
        for name in colours:
            if counts[name]:
                shared = colours[name] == OTHERS
                parts[colours[name], "others" if shared else show_name(name)] += counts[name]
        yield Column(day, counts.total(), [(colour, name, count) for (colour, name), count in parts.items()])


def raise_share(share: float) -> float:
    """The blind share to advise: twice what it is, a tenth at least."""
    return min(LARGEST_BLIND_SHARE, max(0.1, round(2 * share, 2)))


def show_name(name: str) -> str:
    """As it is read; Label Studio may not have told it."""
    return "unknown" if name == UNKNOWN else name


def write_csv(people: People) -> str:
    """The table of annotators, and a last row of all together."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for person in (*people.persons, people.everyone):
        alarms = " ".join(alarm.against for alarm in people.alarms if alarm.name == person.name)
        name = "(all)" if person is people.everyone else show_name(person.name)
        writer.writerow([_safe(name), *_figures(person), "" if person is people.everyone else alarms])
    return out.getvalue()


def _figures(person: Person) -> list[object]:
    return [
        person.labels,
        person.skipped,
        person.every.count - person.every.uncounted,
        *_spread(person.every.seconds),
        person.every.uncounted,
        person.accepted.count,
        person.edited.count,
        "" if person.share is None else round(person.share, 4),
        _spread(person.accepted.seconds)[0],
        _spread(person.edited.seconds)[0],
        person.blind.count,
        _spread(person.blind.seconds)[0],
        person.alone.count,
        person.unknown,
        *_spread(person.dice),
        person.pending,
    ]


def _spread(found: Spread | None) -> tuple[object, object, object]:
    if found is None:
        return "", "", ""
    return round(found.median, 4), round(found.low, 4), round(found.high, 4)


def _safe(name: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    return f"'{name}" if name[:1] in "=+-@\t\r" else name
