"""Projects and users."""

from typing import Any

from maskloop_backend.labelstudio.records import Project
from maskloop_backend.labelstudio.views import Views

LIST_PAGE = 100


class Projects(Views):
    """The part of the client that reads and writes projects."""

    def whoami(self) -> dict[str, Any]:
        """The token's user: {"id", "email", ...}. This is the call that finds a wrong address or token."""
        user = self.json("GET", "api/current-user/whoami")
        if not isinstance(user, dict) or "email" not in user:
            raise self._not_label_studio(self.call("GET", "api/current-user/whoami"), "does not know whoami")
        return user

    def version(self) -> str:
        """Label Studio's release, e.g. "1.23.2"; "" when it does not tell."""
        data = self.json("GET", "api/version")
        return str(data.get("release") or "") if isinstance(data, dict) else ""

    def users(self) -> dict[int, str]:
        """User id -> e-mail address, of the token's organization."""
        return {user["id"]: user["email"] for user in self.json("GET", "api/users/")}

    def projects(self) -> dict[int, str]:
        """Project id -> title, of all projects the token's user sees."""
        found: dict[int, str] = {}
        for page in range(1, 10_000):
            params = {"page": page, "page_size": LIST_PAGE, "include": "id,title"}
            data = self.json("GET", "api/projects/", params=params)
            found |= {row["id"]: row["title"] for row in data["results"]}
            if not data.get("next"):
                break
        return found

    def project(self, project: int) -> Project:
        """A project's settings; status 404 when there is none of this number."""
        return Project.read(self.json("GET", f"api/projects/{project}/"))

    def create_project(self, title: str, label_config: str, **settings: Any) -> Project:
        """Make a project (title of at least three characters)."""
        body = {"title": title, "label_config": label_config, **settings}
        return Project.read(self.json("POST", "api/projects/", json=body))

    def patch_project(self, project: int, **settings: Any) -> None:
        """Change settings of a project, e.g. sampling="Uncertainty sampling"."""
        self.call("PATCH", f"api/projects/{project}/", json=settings)

    def delete_project(self, project: int) -> None:
        """Delete a project with all it has; one that is gone is fine."""
        self.call("DELETE", f"api/projects/{project}/", gone_is_fine=True, timeout=600)

    def members(self, project: int) -> list[int] | None:
        """User ids of a project's members, or None: Community has no members, and no call to list them."""
        answer = self.call("GET", f"api/projects/{project}/members/", gone_is_fine=True)
        if answer.status_code == 404:
            return None
        data = self._json(answer)
        rows = data.get("results", []) if isinstance(data, dict) else data
        return [row["user"] if isinstance(row.get("user"), int) else row.get("id", 0) for row in rows]
