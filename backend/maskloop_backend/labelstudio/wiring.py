"""The two ends that tie a project to the web process: one ML backend, and one webhook with credentials."""

from collections.abc import Iterator

from maskloop_backend.labelstudio.client import Backend, LabelStudio, LabelStudioError, Webhook
from maskloop_backend.labelstudio.findings import Finding
from maskloop_backend.labelstudio.peer import ACTIONS, Peer

CONNECT_FIX = "Run `maskloop connect` for this project."
UP_FIX = "Start `maskloop up`, make sure Label Studio reaches that address, and run `maskloop connect` again."


def check_backend(
    client: LabelStudio, project: int, peer: Peer, findings: list[Finding], *, repair: bool
) -> list[Backend]:
    """One backend of this address, title and credentials, connected. Adds to `findings`, returns all backends."""
    backends = client.backends(project)
    ours = [backend for backend in backends if backend.url.rstrip("/") == peer.url]
    strays = [backend for backend in backends if backend not in ours and backend.title == peer.title]
    chosen = ours[0] if ours else strays[0] if strays else None
    extra = [backend for backend in ours + strays if backend is not chosen]
    if chosen is None:
        findings.append(_create(client, project, peer, repair=repair))
    else:
        findings.append(_mend(client, project, peer, chosen, repair=repair))
    for backend in extra:
        findings.append(_remove(client, peer, backend, repair=repair))
    if repair:
        _drop_webhooks(client, project, peer, [backend.url for backend in strays], findings)
    backends = client.backends(project)
    if backends and backends[0].url.rstrip("/") != peer.url and chosen in ours:
        findings.append(
            Finding(
                "problem",
                f"Another ML backend is the first one: {backends[0].title!r} at {backends[0].url}. "
                "Label Studio asks only the first for predictions",
                "Remove it in the project's Settings > Model, or connect Maskloop to a project of its own.",
            )
        )
    return backends


def _create(client: LabelStudio, project: int, peer: Peer, *, repair: bool) -> Finding:
    if not repair:
        return Finding("problem", f"No ML backend at {peer.url} is connected to project {project}", CONNECT_FIX)
    try:
        client.create_backend(
            project,
            url=peer.url,
            title=peer.title,
            username=peer.username,
            password=peer.password,
            interactive=peer.interactive,
        )
    except LabelStudioError as error:
        return _refused(peer, error)
    return Finding("changed", f"ML backend {peer.title!r} connected: {peer.url}, with credentials")


def _mend(client: LabelStudio, project: int, peer: Peer, backend: Backend, *, repair: bool) -> Finding:
    wrong = list(_differences(peer, backend))
    if not wrong:
        return Finding("ok", f"ML backend {peer.title!r} at {peer.url} is connected")
    what = f"ML backend {backend.id}: " + "; ".join(wrong)
    if not repair:
        down = backend.state not in ("Connected", "Training", "Predicting") and len(wrong) == 1
        return Finding("problem", what, UP_FIX if down else CONNECT_FIX)
    try:
        client.patch_backend(
            backend.id,
            project=project,
            url=peer.url,
            title=peer.title,
            username=peer.username,
            password=peer.password,
            interactive=peer.interactive or backend.interactive,
        )
    except LabelStudioError as error:
        return _refused(peer, error)
    return Finding("changed", f"{what}. Repaired: {peer.url}, with credentials")


def _differences(peer: Peer, backend: Backend) -> Iterator[str]:
    if backend.url.rstrip("/") != peer.url:
        yield f"its address was {backend.url}"
    if backend.title != peer.title:
        yield f"its title was {backend.title!r}"
    if not backend.basic_auth or backend.username != peer.username:
        yield "it lacked the credentials"
    if peer.interactive and not backend.interactive:
        yield "it could not take prompts"
    # The password cannot be read; but /setup asks for it, and the state tells how that went a moment ago.
    if backend.state not in ("Connected", "Training", "Predicting"):
        yield f"Label Studio found it {backend.state.lower()}" + (f" ({backend.error})" if backend.error else "")


def _refused(peer: Peer, error: LabelStudioError) -> Finding:
    if error.banned_address:
        return Finding("problem", f"Label Studio refuses to call {peer.url}: {error.said}", error.fix)
    if error.status == 400:
        return Finding("problem", f"Label Studio could not connect to {peer.url}: {error.said}", UP_FIX)
    raise error


def _remove(client: LabelStudio, peer: Peer, backend: Backend, *, repair: bool) -> Finding:
    what = f"ML backend {backend.id} {backend.title!r} at {backend.url} was one too many"
    if not repair:
        return Finding("problem", what, CONNECT_FIX)
    client.delete_backend(backend.id)
    return Finding("changed", f"{what}; removed")


def _drop_webhooks(client: LabelStudio, project: int, peer: Peer, urls: list[str], findings: list[Finding]) -> None:
    """A backend that moved leaves its webhook behind."""
    stale = {url.rstrip("/") + "/webhook" for url in urls} - {peer.webhook_url}
    for webhook in client.webhooks(project):
        if webhook.url in stale:
            client.delete_webhook(webhook.id)
            findings.append(Finding("changed", f"Webhook {webhook.id} of the former address {webhook.url} removed"))


def check_webhooks(client: LabelStudio, project: int, peer: Peer, *, repair: bool) -> Iterator[Finding]:
    """Exactly one webhook to the backend, with credentials: without them every event is lost, and nobody is told."""
    hooks = [hook for hook in client.webhooks(project) if hook.url.rstrip("/") == peer.webhook_url]
    headers = peer.headers(project)
    if not hooks:
        what = f"There was no webhook to {peer.webhook_url}"
        if not repair:
            yield Finding("problem", what, CONNECT_FIX)
            return
        try:
            client.create_webhook(project, url=peer.webhook_url, headers=headers, actions=ACTIONS, payload=False)
        except LabelStudioError as error:
            yield _refused(peer, error)
        else:
            yield Finding("changed", f"{what}; made, with credentials")
        return
    keep = next((hook for hook in hooks if not list(_faults(hook, headers))), hooks[0])
    faults = list(_faults(keep, headers))
    if not faults:
        yield Finding("ok", f"Webhook to {peer.webhook_url}, with credentials")
    elif not repair:
        yield Finding("problem", f"Webhook {keep.id}: " + "; ".join(faults), CONNECT_FIX)
    else:
        try:
            client.patch_webhook(keep.id, url=peer.webhook_url, headers=headers, actions=ACTIONS, payload=False)
        except LabelStudioError as error:
            yield _refused(peer, error)
        else:
            yield Finding("changed", f"Webhook {keep.id}: " + "; ".join(faults) + ". Repaired")
    for hook in hooks:
        if hook is not keep:
            what = f"Webhook {hook.id} sent every event to {peer.webhook_url} a second time"
            if repair:
                client.delete_webhook(hook.id)
            yield Finding("changed", f"{what}; removed") if repair else Finding("problem", what, CONNECT_FIX)


def _faults(hook: Webhook, headers: dict[str, str]) -> Iterator[str]:
    if any(hook.headers.get(name) != value for name, value in headers.items()):
        yield "it lacked the credentials, so its events were lost"
    if hook.all_actions or hook.actions != ACTIONS:
        yield "it sent other events than those on annotations"
    if hook.payload:
        yield "it sent whole masks along"
    if not hook.active:
        yield "it was switched off"
