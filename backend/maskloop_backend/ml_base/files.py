"""Files of task data: which values are addresses of one, and the token that Label Studio gives them out for."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from maskloop_backend.labelstudio.tokens import is_personal, load_token

CLOUD = ("s3", "gs", "azure-blob")


def is_remote_file(text: str) -> bool:
    """True for an upload, local-storage, cloud-storage or http(s) address.

    A path on this machine is none: whoever may add a task could read any file here.
    """
    if text.startswith(("upload/", "/upload/", "/data/upload/")):
        return True
    if text.startswith("/data/") and "?d=" in text:
        return True
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return (parts.scheme in CLOUD or parts.scheme in ("http", "https")) and bool(parts.netloc)


def label_studio_url() -> str | None:
    """Label Studio's address from LABEL_STUDIO_URL or LABEL_STUDIO_HOST."""
    return os.environ.get("LABEL_STUDIO_URL") or os.environ.get("LABEL_STUDIO_HOST")


def access_token(home: Path) -> str | None:
    """A token for files: LABEL_STUDIO_API_KEY (or LABEL_STUDIO_ACCESS_TOKEN), else what `maskloop connect` kept.

    Label Studio takes no personal access token for files: it is exchanged for an access token of five minutes.
    """
    url = label_studio_url()
    token = os.environ.get("LABEL_STUDIO_API_KEY") or os.environ.get("LABEL_STUDIO_ACCESS_TOKEN")
    if not token and url:
        token = load_token(home, url)
    if not token or not url or not is_personal(token):
        return token or None
    from maskloop_backend.labelstudio.client import LabelStudio  # not needed by most models

    with LabelStudio(url, token) as client:
        return client.fetch_headers()["Authorization"].partition(" ")[2]
