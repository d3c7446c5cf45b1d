"""Request bodies: read up to a limit, and parsed without the tens of megabytes that nobody here looks at."""

import json
import re
from collections.abc import Iterator
from typing import Any

from starlette.requests import Request

from maskloop_backend.web.errors import WebError

SMALL = 1 << 16
WINDOW = 1 << 20
"""Bytes that are stepped over in one go: between two, other threads get their turn."""
PLAIN = re.compile(rb'[^"{}\[\]]*+')
# A whole string, with the colon that makes it a key of an object or array; or a bracket. An unclosed string runs
# to the end. Possessive, so that no search goes back over megabytes.
TOKEN = re.compile(rb'"(?:[^"\\]++|\\(?:.|\Z))*+(?:"(\s*+:\s*+(?=[\[{]))?|\Z)|[{}\[\]]', re.DOTALL)


async def read_body(request: Request, *, limit: int) -> bytearray:
    """The body of a request. Raises WebError 413 once it is longer than `limit` bytes."""
    too_large = WebError(
        413,
        f"the body is larger than {limit} bytes",
        request.headers.get("content-length"),
        fix="Send fewer tasks or annotations at once.",
    )
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > limit:
        raise too_large
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise too_large
    return data


def parse_object(data: bytes | bytearray, *, drop: frozenset[bytes] = frozenset(), depth: int = 1) -> dict[str, Any]:
    """Parse a JSON object. In a large one, arrays and objects under the keys `drop` at `depth` become null unread.

    Annotations carry megabytes of RLE: parsing 36 MB takes half a second in which no other request is answered;
    stepping over them takes 0.1 s and lets others pass. Raises WebError 400.
    """
    malformed = WebError(400, "the body is not valid JSON", fix="Send a JSON object, encoded as UTF-8.")
    try:
        value = json.loads(data if len(data) <= SMALL else _without(data, drop, depth))
    except (ValueError, RecursionError) as error:
        malformed.value = str(error)
        raise malformed from error
    if not isinstance(value, dict):
        raise WebError(400, "the body is not a JSON object", type(value).__name__, fix=malformed.fix)
    return value


def _without(data: bytes | bytearray, drop: frozenset[bytes], depth: int) -> bytes:
    """`data` with null in place of the composite values of the keys `drop` that stand at `depth`."""
    pieces: list[bytes | bytearray] = []
    level = kept = 0
    hole: int | None = None
    for token in _tokens(data):
        first = data[token.start()]
        if first in b"{[":
            level += 1
        elif first in b"}]":
            level -= 1
            if hole is not None and level == depth:
                pieces += [data[kept:hole], b"null"]
                kept, hole = token.end(), None
        elif hole is None and level == depth and token[1] is not None:
            name = bytes(token[0][1 : token[0].rindex(b'"')])
            hole = token.end() if name in drop else None
    if level or hole is not None:
        raise ValueError("brackets do not match")
    return b"".join([*pieces, data[kept:]])


def _tokens(data: bytes | bytearray) -> Iterator[re.Match[bytes]]:
    place, end = 0, len(data)
    while place < end:
        plain = PLAIN.match(data, place, min(end, place + WINDOW))
        place = plain.end() if plain else place
        token = TOKEN.match(data, place)
        if token:
            yield token
            place = token.end()
