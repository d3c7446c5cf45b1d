"""An S3 server for tests: moto's S3 behind a guard that checks the signatures of pre-signed URLs, which moto does not.

Run as a program with a port. Anonymous reads are refused, as a private bucket does.
"""

import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.moto_server.werkzeug_app import create_backend_app
from s3_fixture import ACCESS_KEY, REGION, SECRET_KEY
from werkzeug.serving import run_simple

STAMP = "%Y%m%dT%H%M%SZ"
Environ = dict[str, Any]
App = Callable[[Environ, Any], Iterable[bytes]]


class Signer(S3SigV4QueryAuth):  # type: ignore[misc]
    """Signs as the client did, at the client's time."""

    def signature_of(self, request: AWSRequest) -> str:
        """The signature that the request should carry."""
        return str(self.signature(self.string_to_sign(request, self.canonical_request(request)), request))


def refusal(environ: Environ) -> tuple[str, str] | None:
    """S3's code and message for a request without a valid signature; None when it may pass."""
    if "HTTP_AUTHORIZATION" in environ:
        return None
    query = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
    given = query.pop("X-Amz-Signature", None)
    if given is None:
        return "AccessDenied", "Access Denied"
    begun = datetime.strptime(query["X-Amz-Date"], STAMP).replace(tzinfo=UTC)
    if datetime.now(UTC) > begun + timedelta(seconds=int(query["X-Amz-Expires"])):
        return "AccessDenied", "Request has expired"
    path = quote(environ["PATH_INFO"].encode("latin-1"), safe="/-_.~")
    url = f"http://{environ['HTTP_HOST']}{path}?" + "&".join(f"{k}={quote(v, safe='')}" for k, v in query.items())
    request = AWSRequest(environ["REQUEST_METHOD"], url, headers={"host": environ["HTTP_HOST"]})
    request.context["timestamp"] = query["X-Amz-Date"]
    signer = Signer(Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION, expires=int(query["X-Amz-Expires"]))
    if signer.signature_of(request) != given:
        return "SignatureDoesNotMatch", "The request signature we calculated does not match the one you provided."
    return None


def _checked(environ: Environ) -> Environ:
    """The request as one whose signature stands in a header: moto takes a signed URL of no object for a forgery."""
    if "HTTP_AUTHORIZATION" in environ:
        return environ
    query = [(k, v) for k, v in parse_qsl(environ["QUERY_STRING"]) if not k.startswith("X-Amz-")]
    scope = f"{datetime.now(UTC):%Y%m%d}/{REGION}/s3/aws4_request"
    head = f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, SignedHeaders=host, Signature=0"
    return environ | {"QUERY_STRING": urlencode(query), "HTTP_AUTHORIZATION": head}


def guarded(app: App) -> App:
    """The application behind the guard. /ready needs no signature."""

    def answer(environ: Environ, start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/ready":
            start_response("200 OK", [("Content-Length", "0")])
            return [b""]
        refused = refusal(environ)
        if refused is None:
            return app(_checked(environ), start_response)
        body = "<?xml version='1.0'?><Error><Code>{}</Code><Message>{}</Message></Error>".format(*refused).encode()
        start_response("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body]

    return answer


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), guarded(create_backend_app("s3")), threaded=True)
