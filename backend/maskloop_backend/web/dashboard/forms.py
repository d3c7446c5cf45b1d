"""Forms as browsers send them."""

from urllib.parse import parse_qs

from starlette.requests import Request

from maskloop_backend.web.bodies import read_body

LARGEST = 1 << 16


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a urlencoded form, of several values the last. Raises WebError 413 for a large body."""
    body = bytes(await read_body(request, limit=LARGEST))
    fields = parse_qs(body.decode("utf-8", errors="replace"), keep_blank_values=True)
    return {name: values[-1] for name, values in fields.items()}
