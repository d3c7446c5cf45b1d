"""Connects a project: Label Studio's side through its API, our side as a row of the pool."""

from collections.abc import Mapping

from sqlalchemy import select

from maskloop_backend.credentials import load_credentials
from maskloop_backend.grouping import Asked, apply, look, note_change
from maskloop_backend.labelstudio.client import LabelStudio
from maskloop_backend.labelstudio.connect import connect
from maskloop_backend.labelstudio.findings import Connection, Finding
from maskloop_backend.labelstudio.tokens import TokenError, load_token, normal_url, save_token
from maskloop_backend.sync.config import follow_interface
from maskloop_learner.pool.events import record
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.prompting import add_labels
from maskloop_learner.pool.schema import Project
from maskloop_learner.prompts.template import parse_template
from maskloop_learner.settings import Settings


def connect_project(
    pool: Pool,
    settings: Settings,
    *,
    url: str,
    token: str | None,
    ls_id: int,
    prompts: Mapping[str, str],
    grouping: Asked | None = None,
) -> Connection:
    """Do all that a project needs to be served; what was done and found is in the result.

    `token` None: the one kept for this Label Studio. `prompts` (label -> text) change those that are named, `grouping`
    the rule by which images stay together. Raises TemplateError for a prompt that is no template, GroupingError for a
    rule that is none, and TokenError without a usable token and for a second Label Studio with a project of the same
    number.
    """
    for text in prompts.values():
        parse_template(text)
    if grouping:
        apply(Project(), grouping)
    url = normal_url(url)
    token = token or load_token(settings.home, url)
    if token is None:
        raise TokenError(f"no token is kept for {url}: give --token, or set MASKLOOP_TOKEN")
    _refuse_namesake(pool, url, ls_id)
    credentials = load_credentials(settings.home)
    with LabelStudio(url, token) as client:
        connection = connect(
            client,
            ls_id,
            backend_url=settings.resolved_public_url,
            username=credentials.username,
            password=credentials.password,
        )
    if (interface := connection.interface) is None:
        return connection
    save_token(settings.home, url, token)
    unknown = sorted(set(prompts) - set(interface.labels))
    if unknown:
        names = ", ".join(interface.labels)
        connection.findings.append(
            Finding("problem", f"There is no label {unknown[0]!r} to prompt for", f"The labels are: {names}.")
        )
    with pool.write() as session:
        project = session.scalar(select(Project).where(Project.ls_url == url, Project.ls_id == ls_id))
        if project is None:
            project = Project(ls_url=url, ls_id=ls_id, control={}, prompts={})
            session.add(project)
        project.title, project.label_config = connection.title, connection.label_config
        follow_interface(project, interface)
        given = {label: prompts[label] for label in interface.labels if prompts.get(label)}
        project.prompts = add_labels({**project.prompts, **given}, interface.labels)
        session.flush()
        record(session, "project.connected", project_id=project.id, data={"prompts": project.prompts})
        said = "; ".join(f"{label}: {text!r}" for label, text in project.prompts.items())
        if grouping:
            apply(project, grouping)
            note_change(session, project)
        found = look(session, project)
    connection.findings.append(Finding("ok", f"Prompts: {said}"))
    if grouping or found.rule:
        connection.findings.append(Finding("ok", "; ".join(found.sentences())))
        if (warning := found.warning()) is not None:
            connection.findings.append(Finding("ok", f"{warning}; `maskloop groups` shows and changes them"))
    return connection


def _refuse_namesake(pool: Pool, url: str, ls_id: int) -> None:
    # Label Studio's calls name a project by its number alone, so one installation serves one Label Studio's.
    with pool.read() as session:
        other = session.scalar(select(Project.ls_url).where(Project.ls_id == ls_id, Project.ls_url != url))
    if other is not None:
        raise TokenError(
            f"project {ls_id} of another Label Studio ({other}) is connected already; "
            "give the second one an installation of its own by setting MASKLOOP_HOME and MASKLOOP_PORT"
        )
