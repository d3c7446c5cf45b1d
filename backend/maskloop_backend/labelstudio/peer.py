"""The web process as Label Studio is told of it."""

from base64 import b64encode
from dataclasses import dataclass, field

ACTIONS = frozenset({"ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED", "ANNOTATIONS_DELETED"})
"""Events worth a look. Tasks are looked for by the clock: an import of thousands needs no event each."""
PROJECT_HEADER = "X-Maskloop-Project"


@dataclass(frozen=True)
class Peer:
    """Address, credentials and title of the backend."""

    address: str
    username: str
    password: str = field(repr=False)
    title: str
    interactive: bool = False
    """Label Studio offers to ask it while an annotator draws or types a prompt."""

    @property
    def url(self) -> str:
        """The address without a trailing slash, as it is registered."""
        return self.address.rstrip("/")

    @property
    def webhook_url(self) -> str:
        """Where Label Studio sends events: it derives the same from the backend's address."""
        return self.url + "/webhook"

    def headers(self, project: int) -> dict[str, str]:
        """What a webhook must carry: Label Studio gives a backend's credentials to its own calls only."""
        basic = b64encode(f"{self.username}:{self.password}".encode()).decode()
        return {"Authorization": f"Basic {basic}", PROJECT_HEADER: str(project)}
