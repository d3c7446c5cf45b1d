"""Addresses in cloud storages (s3://bucket/key), which no one but Label Studio can turn into something to read.

Label Studio's own page asks /tasks/<id>/resolve/?fileuri=<base64 of the address>. Where the storage has pre-signed
URLs on, the answer is a redirect to the storage; where not, the file itself (io_storages/proxy_api.py of 1.23.2).
Older releases say /presign/, which still works.
"""

import base64
import binascii
import re
from urllib.parse import parse_qs, urlsplit

SCHEMES = ("s3", "gs", "azure-blob")
RESOLVER = re.compile(r"/(?:tasks|projects)/\d+/(?:resolve|presign)/?$")
SIGNATURES = {"x-amz-signature", "x-goog-signature", "signature", "sig"}
"""Names in the query of a pre-signed URL: S3, Google, S3's old form, Azure."""


def is_cloud(url: str) -> bool:
    """Whether an address lies in a storage that Label Studio resolves."""
    return url.split("://", 1)[0].lower() in SCHEMES and "://" in url


def resolver_path(url: str, task: int) -> str:
    """Where Label Studio gives out what lies behind an address, for a task by its number in Label Studio."""
    # "replace": JSON can carry halves of surrogate pairs.
    coded = base64.urlsafe_b64encode(url.encode("utf-8", "replace")).decode()
    return f"/tasks/{task}/resolve/?fileuri={coded}"


def resolved_address(path: str, query: str) -> str | None:
    """The address that a path of Label Studio's resolver stands for, "..." when unreadable; None for other paths."""
    if not RESOLVER.search(path):
        return None
    coded = parse_qs(query).get("fileuri", [""])[0]
    try:
        return base64.b64decode(coded, altchars=b"-_", validate=True).decode() or "..."
    except (binascii.Error, ValueError):
        return "..."


def is_signed(query: str) -> bool:
    """Whether a query carries the signature of a storage."""
    return not SIGNATURES.isdisjoint(name.lower() for name in parse_qs(query, keep_blank_values=True))


def looks_like_label_studio(path: str) -> bool:
    """Whether a path is one under which Label Studio gives out files."""
    return bool(RESOLVER.search(path)) or any(part in path for part in ("/data/local-files/", "/data/upload/"))


def shown_address(url: str) -> str:
    """A task's address for messages: without user, line breaks and foreign query, at most 200 characters."""
    parts = url.split("?", 1)
    plain = re.sub(r"//[^/?#]*@", "//", parts[0]).encode("utf-8", "replace").decode()
    if len(parts) > 1 and not is_signed(parts[1]) and looks_like_label_studio(_path(parts[0])):
        plain += "?" + parts[1].encode("utf-8", "replace").decode()
    return re.sub(r"[\x00-\x1f\x7f]", "?", plain)[:200] if not plain.startswith("data:") else "data:..."


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return ""
