"""`maskloop prompts`: what a project's images are asked by, its templates, and prompts out of workbooks."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from maskloop_backend.cli.context import open_pool, pick_project, print_json
from maskloop_backend.cli.errors import CommandError
from maskloop_backend.cli.ranking import ProjectOption
from maskloop_backend.prompting import (
    EXAMPLES,
    PromptError,
    Survey,
    change_template,
    store_sheet_prompts,
    store_templates,
    survey_prompts,
    tasks_of,
    too_long,
)
from maskloop_learner.data.sheets import Sheet, SheetError, describe_twin, read_sheet
from maskloop_learner.model.backbones import find_backbone
from maskloop_learner.pool.events import record
from maskloop_learner.pool.prompting import labels_on
from maskloop_learner.pool.schema import Project
from maskloop_learner.prompts.location import find_location
from maskloop_learner.prompts.matching import Matches, match_rows, task_names
from maskloop_learner.prompts.rules import (
    default_prompts,
    lesser_prompts,
    render_negative,
    resolve_prompts,
    validation_prompt,
)
from maskloop_learner.prompts.template import TemplateError
from maskloop_learner.settings import get_settings

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
LabelOption = Annotated[str | None, typer.Option("--label", help="The label that is asked for.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    group = typer.Typer(no_args_is_help=True, help="What a project's images are asked by, and how to change it.")
    for command in (show, preview, sheet):
        group.command()(command)
    group.command(name="set")(set_template)
    app.add_typer(group, name="prompts")


def show(project: ProjectOption = None, as_json: JsonOption = False) -> None:
    """Each label's template, what it gives on the project's tasks, and prompts that tell a location."""
    pool = open_pool()
    chosen = pick_project(pool, project)
    with plain_errors(), pool.read() as session:
        surveys = survey_prompts(session, chosen)
    negatives = {x.label: render_negative(x.label, chosen.prompts) for x in surveys}
    if as_json:
        print_json([{**each.as_json(), "negative": negatives[each.label]} for each in surveys])
        return
    table = Table(title=f"Prompts of {escape(chosen.title)}")
    for name in ("label", "template", "on its tasks", "from"):
        table.add_column(name)
    for each in surveys:
        given = "\n".join(f"{count} x {text}" for text, count in each.texts.most_common(EXAMPLES)) or each.default
        sources = ", ".join(f"{source} {count}" for source, count in each.sources.most_common())
        table.add_row(*(escape(cell) for cell in (each.label, each.template or "none", given, sources)))
    Console().print(table)
    for each in surveys:
        for line in (*describe(each), *([f"absent: {negatives[each.label]}"] if negatives[each.label] else [])):
            print(f"{each.label}: {line}")
    warn_of_length(text for each in surveys for text in each.texts)


def set_template(
    text: Annotated[
        str, typer.Argument(help='The template, for instance "{finding} in a breast ultrasound"; "": none.')
    ],
    project: ProjectOption = None,
    label: LabelOption = None,
    all_labels: Annotated[bool, typer.Option("--all", help="For all labels, instead of their own.")] = False,
    negative: Annotated[bool, typer.Option(help="The form that says that the label is absent.")] = False,
) -> None:
    """Give a label, or all labels, another template. Predictions follow as soon as `maskloop up` sees it."""
    if (label is None) != all_labels:
        raise CommandError("choose either --label LABEL or --all")
    pool = open_pool()
    chosen = pick_project(pool, project)
    with plain_errors():
        prompts = change_template(chosen, label, text, negative=negative)
        with pool.write() as session:
            store_templates(session, chosen, prompts)
    labels = [label] if label is not None else list(chosen.control["labels"])
    defaults = default_prompts(labels, prompts)
    for each in labels:
        said = render_negative(each, prompts) or "no form for its absence" if negative else defaults[each]
        print(f"{each}: {said}")
        warn_of_location(said, each)
    warn_of_length(defaults.values())


def preview(
    template: Annotated[str, typer.Argument(help="The template to try.")],
    field: Annotated[
        list[str] | None, typer.Option(help='Of a task\'s data, as "size=small"; may be repeated.')
    ] = None,
    label: Annotated[str, typer.Option(help="The label that is asked for.")] = "Tumor",
    as_json: JsonOption = False,
) -> None:
    """Show what a template gives: whole, for validation, and the lesser forms that training mixes in."""
    data = dict(split_field(each) for each in field or [])
    templates = {label: template}
    with plain_errors():
        found = resolve_prompts(labels=[label], templates=templates, data=data)[label]
        lesser = lesser_prompts(label, templates, own=found.text)
    if as_json:
        about = {"validation": validation_prompt(found), "lesser": list(lesser), "location": located(found.text, label)}
        print_json(
            {"text": found.text, "source": found.source, "template": found.template, **about, "reason": found.reason}
        )
        return
    print(found.text)
    print(f"  from        {found.template or found.source}{f' ({found.reason})' if found.reason else ''}")
    print(f"  validation  {validation_prompt(found)}")
    for text in lesser:
        print(f"  less        {text}")
    warn_of_location(found.text, label)
    warn_of_length([found.text])


def sheet(
    file: Annotated[Path, typer.Argument(help="Workbook with the columns Image, Description and Ground Truth.")],
    project: ProjectOption = None,
    label: LabelOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take the prompts of a workbook over to the tasks whose images it names."""
    pool = open_pool()
    chosen = pick_project(pool, project)
    wanted = pick_label(chosen, label)
    with plain_errors():
        table = read_sheet(file)
        with pool.read() as session:
            tasks = {x.id: x for x in tasks_of(session, chosen.id) if wanted in labels_on(chosen, x.part)}
        found = match_rows(table.rows, {task.id: task_names(task.url, task.data) for task in tasks.values()})
        texts = {task: row.prompt for task, row in found.rows.items() if row.prompt}
        if not dry_run and texts:
            with pool.write() as session:
                store_sheet_prompts(session, chosen, {task: {wanted: text} for task, text in texts.items()})
                about = {"file": file.name, "label": wanted, "tasks": len(texts)}
                record(session, "prompts.imported", project_id=chosen.id, data=about)
    told = describe_sheet(table, found, {task: tasks[task].ls_id for task in tasks}, wanted)
    stored = 0 if dry_run else len(texts)
    if as_json:
        print_json({"label": wanted, "rows": len(table.rows), "stored": stored, **told})
        return
    print(
        f"{len(table.rows)} rows, {len(texts)} of {len(tasks)} tasks get a prompt for {wanted}"
        + (" (dry run)" * dry_run)
    )
    for name, items in told.items():
        for item in items[:EXAMPLES]:
            print(f"  {name}: {item}")
        if len(items) > EXAMPLES:
            print(f"  {name}: {len(items) - EXAMPLES} more")
    warn_of_length(texts.values())


def describe(survey: Survey) -> Iterator[str]:
    """What a person should know of a label's prompts."""
    for reason, count in survey.fallbacks.most_common():
        yield f"{count} of {survey.tasks} tasks are asked by the label's name: {reason}"
    if survey.located:
        task, text = survey.located[0]
        yield f"{len(survey.located)} prompts tell a location and never validate; task {task}: {text!r}"


def describe_sheet(table: Sheet, found: Matches, ids: dict[int, int], label: str) -> dict[str, list[str]]:
    """What is to be said of a workbook's rows, by matter."""
    told = {f"{row.image}: {row.prompt}" for row in found.rows.values() if located(row.prompt, label)}
    return {
        "no task": [f"line {row.line}: {row.image}" for row in found.unmatched],
        "no row": [f"task {ids[task]}" for task in found.lacking],
        "unclear": [
            f"task {ids[task]} fits {', '.join(row.image for row in rows)}" for task, rows in found.unclear.items()
        ],
        "twice": [describe_twin(twin) for twin in table.twins],
        "no image": [f"line {line}" for line in table.nameless],
        "no prompt": [f"line {row.line}: {row.image}" for row in table.rows if not row.prompt],
        "location": sorted(told),
    }


def pick_label(project: Project, wanted: str | None) -> str:
    """The label that a sheet is of; the only one when none is named."""
    labels = list(project.control["labels"])
    if wanted is None and len(labels) == 1:
        return str(labels[0])
    if wanted not in labels:
        named = "choose one with --label" if wanted is None else f"there is no label {wanted!r}"
        raise CommandError(f"{named}; the labels are: {', '.join(labels)}")
    return str(wanted)


def split_field(text: str) -> tuple[str, str]:
    """ "name=value" as its two parts. Raises CommandError when it has no such form."""
    name, found, value = text.partition("=")
    if not found or not name.strip():
        raise CommandError(f'a field must look like "size=small", got {text!r}')
    return name.strip(), value


def located(text: str, label: str) -> str | None:
    """The words that tell where the label is; None when none do."""
    return find_location(text, allow=label)


def warn_of_location(text: str, label: str) -> None:
    """Say on stderr that a prompt gives the answer away."""
    if words := located(text, label):
        print(
            f"maskloop: {words!r} tells a location, which nobody knows of an unlabelled image: {text!r}",
            file=sys.stderr,
        )


def warn_of_length(texts: Iterable[str]) -> None:
    """Say on stderr which prompts the backbone of new trainings cannot read to their end."""
    settings = get_settings()
    spec = find_backbone(settings.backbone)
    for warning in too_long(texts, spec, settings.bases_folder / spec.name):
        print(f"maskloop: {warning}", file=sys.stderr)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what templates, sheets and the pool's prompts may raise into one line."""
    try:
        yield
    except (TemplateError, SheetError, PromptError) as error:
        raise CommandError(str(error)) from error
