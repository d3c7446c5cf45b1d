"""The clients of a process, one per Label Studio, with the token that is kept now."""

from pathlib import Path

from maskloop_backend.fetch import FetchError
from maskloop_backend.labelstudio.client import LabelStudio, LabelStudioError
from maskloop_backend.labelstudio.tokens import TokenError, load_token


class Clients:
    """Makes clients and keeps them until `maskloop connect` brings another token."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._kept: dict[str, tuple[str, LabelStudio]] = {}

    def get(self, url: str) -> LabelStudio:
        """The client of a Label Studio. Raises TokenError when no token is kept for it."""
        token = load_token(self.home, url)
        if token is None:
            raise TokenError(f"no token is kept for {url}; run `maskloop connect --url {url} --token ...`")
        kept = self._kept.get(url)
        if kept is None or kept[0] != token:
            self._kept[url] = kept = (token, LabelStudio(url, token))
        return kept[1]

    def headers_for(self, url: str) -> dict[str, str]:
        """Headers with which Label Studio gives its files out. Raises FetchError when it would not."""
        try:
            return self.get(url).fetch_headers()
        except (TokenError, LabelStudioError) as error:
            raise FetchError(url, str(error), "The image is asked for again later.", retry=True) from error
