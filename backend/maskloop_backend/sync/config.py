"""Follows edits of a project's label config: what stays is kept, what changed is reported."""

import logging
from collections.abc import Iterator

from maskloop_backend.labelstudio.client import LabelStudio
from maskloop_backend.labelstudio.config import ConfigError, read_interface
from maskloop_backend.labelstudio.controls import Interface
from maskloop_learner.pool.events import record
from maskloop_learner.pool.pool import Pool
from maskloop_learner.pool.prompting import add_labels
from maskloop_learner.pool.schema import Project

log = logging.getLogger(__name__)


def describe_changes(before: Interface, after: Interface) -> Iterator[str]:
    """What an annotator finds changed, in words."""
    for label in after.labels:
        if label not in before.labels:
            yield f"label {label!r} was added: it is predicted once a model has learnt it"
    for label in before.labels:
        if label not in after.labels:
            yield f"label {label!r} was removed: its masks are kept, and no longer predicted or learnt"
    old, new = ({(tag.from_name, tag.data_key): tag for tag in interface.controls} for interface in (before, after))
    for key, tag in new.items():
        if key not in old:
            yield f"tag {tag.from_name!r} ({tag.kind}) on ${tag.data_key} was added"
        elif (old[key].kind, old[key].to_name) != (tag.kind, tag.to_name):
            yield f"tag {tag.from_name!r} is {tag.kind} on {tag.to_name!r} now, before {old[key].kind}"
    for key, tag in old.items():
        if key not in new:
            yield f"tag {tag.from_name!r} on ${tag.data_key} was removed"
    if before.prompt_tags != after.prompt_tags:
        names = ", ".join(tag.from_name for tag in after.prompt_tags) or "none"
        yield f"tags to type a prompt in: {names}"


def follow_interface(project: Project, interface: Interface) -> None:
    """Serve a project by these tags from now on."""
    control, before = interface.as_json(), Interface.from_json(project.control)
    revision = int(project.control.get("revision", 0))
    # Regions are drawn with other tags from now on: predictions are pushed anew, as another version.
    revision += bool(before.controls) and before.controls != interface.controls
    project.control = control | ({"revision": revision} if revision else {})
    if interface != before:
        project.synced_at = None  # all tasks are looked at again: they may hold images of new tags


def follow_config(pool: Pool, client: LabelStudio, project: Project) -> bool:
    """Take over the project's label config if it was edited; return whether what is served changed.

    One that cannot be served changes nothing: the former stays, and the reason is raised as ConfigError.
    """
    row = client.project(project.ls_id)
    if row.label_config == project.label_config:
        return False
    interface = read_interface(row.label_config)
    before = Interface.from_json(project.control)
    changes = list(describe_changes(before, interface))
    with pool.write() as session:
        kept = session.get_one(Project, project.id)
        kept.label_config, kept.title = row.label_config, row.title
        if interface == before:
            return False
        follow_interface(kept, interface)
        kept.prompts = add_labels(kept.prompts, interface.labels)
        record(session, "config.changed", project_id=project.id, data={"changes": changes})
    for change in changes:
        log.info("project %d: %s", project.ls_id, change)
    return True


__all__ = ["ConfigError", "describe_changes", "follow_config"]
