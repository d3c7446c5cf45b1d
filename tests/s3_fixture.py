"""A local S3 server in a process of its own, with a client of the tests for what they put there."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

ACCESS_KEY, SECRET_KEY, REGION = "maskloop", "maskloop-test-secret", "us-east-1"
START_SECONDS = 60.0


@dataclass
class S3Server:
    """A running S3 server; buckets are addressed by path, http://127.0.0.1:<port>/<bucket>/<key>."""

    port: int
    client: Any

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def put(self, bucket: str, files: dict[str, bytes]) -> None:
        """Make a bucket with these objects."""
        self.client.create_bucket(Bucket=bucket)
        for key, data in files.items():
            self.client.put_object(Bucket=bucket, Key=key, Body=data)

    def presigned(self, bucket: str, key: str, *, seconds: int = 60) -> str:
        """A signed address of an object, as Label Studio makes it."""
        params = {"Bucket": bucket, "Key": key, "ResponseContentType": "image/png"}
        return str(self.client.generate_presigned_url("get_object", Params=params, ExpiresIn=seconds))

    def storage(self, bucket: str, **changes: Any) -> dict[str, Any]:
        """What Label Studio's POST /api/storages/s3/ takes for a bucket, less the project."""
        return {
            "bucket": bucket,
            "s3_endpoint": self.url,
            "region_name": REGION,
            "aws_access_key_id": ACCESS_KEY,
            "aws_secret_access_key": SECRET_KEY,
            "use_blob_urls": True,
            "presign": True,
            "presign_ttl": 1,
            "recursive_scan": True,
        } | changes


def start_s3() -> tuple[S3Server, "subprocess.Popen[bytes]"]:
    """Start the server on a free port and wait until it answers."""
    import boto3  # every test run loads this module: only those with S3 pay for it
    from botocore.config import Config

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = Path(__file__).with_name("s3_server.py")
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([sys.executable, str(script), str(port)], stderr=log)
        _wait(process, port, log)
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    return S3Server(port, client), process


def _wait(process: "subprocess.Popen[bytes]", port: int, log: IO[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)  # not listening yet
    process.kill()
    log.seek(0)
    raise RuntimeError(f"the S3 server did not come up; its last words:\n{log.read().decode(errors='replace')[-2000:]}")


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """One S3 server for the session."""
    server, process = start_s3()
    try:
        yield server
    finally:
        process.terminate()
        process.wait(10)
