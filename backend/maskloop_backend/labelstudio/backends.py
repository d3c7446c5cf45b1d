"""ML backends and webhooks of a project."""

from collections.abc import Iterable
from typing import Any

from maskloop_backend.labelstudio.projects import Projects
from maskloop_backend.labelstudio.records import Backend, Webhook


class Backends(Projects):
    """The part of the client that connects a project to an ML backend."""

    def backends(self, project: int) -> list[Backend]:
        """ML backends, oldest first: only that one is asked for predictions. Calls each one's /health and /setup."""
        rows = self.json("GET", "api/ml/", params={"project": project})
        return [Backend.read(row) for row in sorted(rows, key=lambda row: int(row["id"]))]

    def create_backend(
        self, project: int, *, url: str, title: str, username: str, password: str, interactive: bool
    ) -> Backend:
        """Connect a backend that asks for HTTP Basic credentials. Label Studio calls it; 400 says what went wrong.

        Status 403 with `banned_address` may leave a backend without a webhook behind.
        """
        body = _backend(project, url, title, username, password, interactive)
        return Backend.read(self.json("POST", "api/ml/", json=body))

    def patch_backend(
        self, backend: int, *, project: int, url: str, title: str, username: str, password: str, interactive: bool
    ) -> Backend:
        """Change a backend; Label Studio wants every field again, and calls the backend."""
        body = _backend(project, url, title, username, password, interactive)
        return Backend.read(self.json("PATCH", f"api/ml/{backend}", json=body))

    def delete_backend(self, backend: int) -> None:
        """Disconnect a backend; its webhook stays. One that is gone is fine."""
        self.call("DELETE", f"api/ml/{backend}", gone_is_fine=True)

    def webhooks(self, project: int) -> list[Webhook]:
        """The project's own webhooks, oldest first."""
        rows = self.json("GET", "api/webhooks/")  # its `project` parameter does nothing
        mine = (row for row in rows if row.get("project") == project)
        return [Webhook.read(row) for row in sorted(mine, key=lambda row: int(row["id"]))]

    def create_webhook(
        self, project: int, *, url: str, headers: dict[str, str], actions: Iterable[str], payload: bool
    ) -> Webhook:
        """Make a webhook. Status 403 with `banned_address`: its address is in a network Label Studio bans."""
        body = {"project": project, **_webhook(url, headers, actions, payload)}
        return Webhook.read(self.json("POST", "api/webhooks/", json=body))

    def patch_webhook(
        self, webhook: int, *, url: str, headers: dict[str, str], actions: Iterable[str], payload: bool
    ) -> Webhook:
        """Change a webhook and switch it on."""
        body = _webhook(url, headers, actions, payload)
        return Webhook.read(self.json("PATCH", f"api/webhooks/{webhook}/", json=body))

    def delete_webhook(self, webhook: int) -> None:
        """Delete a webhook; one that is gone is fine."""
        self.call("DELETE", f"api/webhooks/{webhook}/", gone_is_fine=True)


def _backend(project: int, url: str, title: str, username: str, password: str, interactive: bool) -> dict[str, Any]:
    return {
        "project": project,
        "url": url,
        "title": title,
        "is_interactive": interactive,
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": username,
        "basic_auth_pass": password,
    }


def _webhook(url: str, headers: dict[str, str], actions: Iterable[str], payload: bool) -> dict[str, Any]:
    return {
        "url": url,
        "headers": headers,
        "send_for_all_actions": False,
        "actions": sorted(actions),
        "send_payload": payload,
        "is_active": True,
    }
