"""Connects a project of Label Studio to Maskloop, repairs what is half connected, and says what it did.

Looking and repairing are one code: every check yields what it finds, and mends it where `repair` is set.
"""

from collections.abc import Iterator
from dataclasses import replace

from maskloop_backend.labelstudio.client import LabelStudio, LabelStudioError, Project
from maskloop_backend.labelstudio.config import TITLES, ConfigError, read_interface
from maskloop_backend.labelstudio.controls import Interface
from maskloop_backend.labelstudio.findings import Connection, Finding
from maskloop_backend.labelstudio.peer import Peer
from maskloop_backend.labelstudio.wiring import check_backend, check_webhooks

TESTED = "1.23"
UNCERTAINTY = "Uncertainty sampling"
TITLE = "Maskloop"
CONNECT_FIX = "Run `maskloop connect` for this project."


def connect(
    client: LabelStudio,
    project: int,
    *,
    backend_url: str,
    username: str,
    password: str,
    title: str = TITLE,
    interactive: bool = False,
) -> Connection:
    """Do all that a project needs to be served, and say what was done; running it again changes nothing.

    `backend_url` is where Label Studio reaches the web process, `username` and `password` what that asks for,
    `title` the backend's name in Label Studio, `interactive` that it answers while an annotator works.
    Never raises LabelStudioError: it becomes a problem.
    """
    return _look(client, project, Peer(backend_url, username, password, title, interactive), repair=True)


def inspect(
    client: LabelStudio,
    project: int,
    *,
    backend_url: str,
    username: str,
    password: str,
    title: str = TITLE,
    interactive: bool = False,
) -> Connection:
    """The same looks without changing anything; what `connect` would change is a problem here."""
    return _look(client, project, Peer(backend_url, username, password, title, interactive), repair=False)


def _look(client: LabelStudio, number: int, peer: Peer, *, repair: bool) -> Connection:
    findings: list[Finding] = []
    try:
        findings += check_access(client)
        project = client.project(number)
        try:
            interface = read_interface(project.label_config)
        except ConfigError as error:
            config_fix = "Change it in the project's Settings > Labeling Interface, then run `maskloop connect`."
            findings.append(
                Finding("problem", f"Project {number} {project.title!r} cannot be served: {error}", config_fix)
            )
            return Connection(findings, client.url, number, project.title, project.label_config)
        findings.append(_served(project, interface))
        if interface.prompt_tags:
            # Label Studio hands what is typed to a backend only when that is called interactive.
            peer = replace(peer, interactive=True)
        backends = check_backend(client, number, peer, findings, repair=repair)
        findings += check_webhooks(client, number, peer, repair=repair)
        findings += check_settings(
            client, client.project(number), {backend.title for backend in backends}, repair=repair
        )
        findings += check_order(project, client.members(number))
    except LabelStudioError as error:
        missing = error.status == 404 and f"/projects/{number}/" in error.url
        what = f"{client.url} has no project {number}" if missing else str(error).removesuffix(error.fix).strip()
        fix = "Give the number that its address shows: /projects/<number>/data." if missing else error.fix
        findings.append(Finding("problem", what, fix))
        return Connection(findings, client.url, number)
    return Connection(findings, client.url, number, project.title, project.label_config, interface)


def check_access(client: LabelStudio) -> Iterator[Finding]:
    """The token and the release of Label Studio. LabelStudioError when it cannot be reached or entered."""
    user = client.whoami()
    release = client.version()
    advice = "" if client.personal else "Legacy tokens can be switched off; a personal access token lasts."
    what = (
        f"Label Studio {release or '(release unknown)'} at {client.url}, as {user['email']} with a {client.token_kind}"
    )
    if not release.startswith(TESTED):
        advice = f"Maskloop is tested with Label Studio {TESTED}. {advice}".strip()
    yield Finding("ok", what, advice)


def _served(project: Project, interface: Interface) -> Finding:
    masks = "; ".join(
        f"{TITLES[control.kind]} {control.from_name!r} on ${control.data_key} ({', '.join(control.labels)})"
        for control in interface.controls
    )
    prompts = "".join(f"; typed prompts: {tag.from_name!r} on ${tag.data_key}" for tag in interface.prompt_tags)
    return Finding("ok", f"Project {project.id} {project.title!r}: {masks}{prompts}")


def check_settings(client: LabelStudio, project: Project, titles: set[str], *, repair: bool) -> Iterator[Finding]:
    """The project's settings. `titles`: those of its backends, which model_version must not be one of."""
    wanted: dict[str, tuple[object, object, str]] = {
        "sampling": (project.sampling, UNCERTAINTY, "so the most uncertain task comes first"),
        "show_collab_predictions": (project.show_collab_predictions, True, "so masks are pre-filled"),
        "evaluate_predictions_automatically": (
            project.evaluate_predictions_automatically,
            False,
            "so lists open without waiting for the model",
        ),
    }
    if project.model_version in titles:
        wanted["model_version"] = (
            project.model_version,
            "",
            "a backend's title there makes the order random and hides the scores; sync sets the prediction version",
        )
    wrong = {name: (now, right, why) for name, (now, right, why) in wanted.items() if now != right}
    if not wrong:
        yield Finding("ok", "Project settings: uncertainty sampling, masks pre-filled, predictions pushed ahead")
    for name, (now, right, why) in wrong.items():
        if repair:
            client.patch_project(project.id, **{name: right})
            yield Finding("changed", f"Project setting {name}: {now!r} -> {right!r}, {why}")
        else:
            yield Finding("problem", f"Project setting {name} is {now!r}, not {right!r} ({why})", CONNECT_FIX)


def check_order(project: Project, members: list[int] | None) -> Iterator[Finding]:
    """What makes Label Studio serve in another order than by score. `members` None: it has no such list."""
    if members is not None and len(members) > 1:
        yield Finding(
            "problem",
            f"Project {project.id} has {len(members)} members, so Label Studio serves its tasks in random order",
            "Remove members in the project's Settings > Members until one is left (they can still annotate), "
            "or have annotators work in the Data Manager ordered by prediction score.",
        )
    if project.annotator_evaluation:
        yield Finding(
            "problem",
            "Annotator evaluation is on, so tasks with ground truth come first, in random order",
            "Switch it off in the project's Settings > Quality.",
        )
    if project.maximum_annotations > 1:
        yield Finding(
            "ok",
            f"Each task is annotated {project.maximum_annotations} times, so tasks that others began come first",
            "Set Annotations per task to 1 to always serve the most uncertain task.",
        )
