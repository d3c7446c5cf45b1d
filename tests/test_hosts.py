"""The list of image hosts: what may stand in it and what it holds."""

import pytest
from pydantic import ValidationError

from maskloop_backend.cloud import shown_address
from maskloop_learner.hosts import Hosts
from maskloop_learner.settings import Settings

NAMED = Hosts.parse(" minio:9000,PACS.hospital.lan , 10.0.0.5,[fd00:0::5]:8080, ::1, bücher.example,my_host.lan.")


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("minio", 9000),
        ("MINIO", 9000),
        ("pacs.hospital.lan", 80),
        ("pacs.hospital.lan.", 443),
        ("10.0.0.5", 443),
        ("fd00::5", 8080),
        ("0:0::1", 80),
        ("xn--bcher-kva.example", 80),
        ("my_host.lan", 80),
    ],
)
def test_hosts_that_are_named(host: str, port: int) -> None:
    """Case, a final dot and the spelling of a number make no difference; without a port both of the web's count."""
    assert NAMED.holds(host, port)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("minio", 80),
        ("minio", 9001),
        ("pacs.hospital.lan", 8080),
        ("hospital.lan", 80),
        ("x.pacs.hospital.lan", 80),
        ("10.0.0.6", 80),
        ("167772165", 80),
        ("fd00::5", 80),
        ("::2", 80),
    ],
)
def test_hosts_that_are_not(host: str, port: int) -> None:
    """Another port, a neighbour, a part of a name and an odd spelling of a number are not named."""
    assert not NAMED.holds(host, port)
    assert not Hosts.parse(" , ").holds(host, port)


@pytest.mark.parametrize(
    "text",
    [
        "http://minio:9000",
        "minio:9000/bucket",
        "minio:",
        "minio:0",
        "minio:99999",
        "minio:nine",
        "*.lan",
        "a b",
        "user@minio",
        "[minio]:9000",
        "[::1",
        "[::1]x",
        "10.0.0.0/8",
        ".lan",
        "a..b",
    ],
)
def test_a_wrong_entry_is_named(text: str) -> None:
    """Addresses, wildcards and networks are refused, with the entry and an example."""
    with pytest.raises(ValueError, match="write for instance minio:9000") as caught:
        Hosts.parse(f"pacs.lan,{text}")
    assert repr(text) in str(caught.value)
    with pytest.raises(ValidationError, match="image_hosts"):
        Settings(image_hosts=text)


def test_the_setting_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """MASKLOOP_IMAGE_HOSTS; nothing is named without it."""
    assert not Settings().named_image_hosts.named
    monkeypatch.setenv("MASKLOOP_IMAGE_HOSTS", "minio:9000")
    assert Settings().named_image_hosts.holds("minio", 9000)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/data/local-files/?d=a/b.png", "/data/local-files/?d=a/b.png"),
        ("http://ls/data/local-files/?d=a.png", "http://ls/data/local-files/?d=a.png"),
        ("https://x.example/a.png?X-Amz-Signature=hunter2", "https://x.example/a.png"),
        ("https://x.example/data/upload/a.png?sig=hunter2", "https://x.example/data/upload/a.png"),
        ("https://x.example/a.png?key=hunter2", "https://x.example/a.png"),
        ("https://me:hunter2@x.example/a.png", "https://x.example/a.png"),
        ("s3://scans/a\n.png", "s3://scans/a?.png"),
        ("data:image/png;base64,AAAA", "data:..."),
        ("http://[x/a.png?hunter2", "http://[x/a.png"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, shown: str) -> None:
    """A foreign query may be a signature or a key; that of Label Studio's own files names the file."""
    assert shown_address(url) == shown
