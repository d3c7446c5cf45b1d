"""Hosts as an operator names them in a setting: `minio:9000, pacs.hospital.lan, [fd00::5]:8080`."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Self

WEB_PORTS = frozenset({80, 443})
"""What a host without a port stands for."""
NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?")


@dataclass(frozen=True)
class Hosts:
    """Hosts with their port, or None for those of the web."""

    named: frozenset[tuple[str, int | None]] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a comma separated list of host or host:port. Raises ValueError naming the wrong entry."""
        return cls(frozenset(_entry(part.strip()) for part in text.split(",") if part.strip()))

    def holds(self, host: str, port: int) -> bool:
        """Whether a host, a name or a number as it stands in an address, is named with this port."""
        name = _normal(host)
        return (name, port) in self.named or (port in WEB_PORTS and (name, None) in self.named)


def _entry(text: str) -> tuple[str, int | None]:
    host, port = text, ""
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", text)
    if bracketed:
        host, port = bracketed[1], bracketed[2] or ""
    elif text.count(":") == 1:
        host, port = text.split(":")
    wrong = f"{text!r} is not host or host:port; write for instance minio:9000 or pacs.hospital.lan"
    if (port or text.endswith(":")) and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(wrong)
    try:
        name = _normal(host)
    except UnicodeError as error:
        raise ValueError(wrong) from error
    if not (NAME.fullmatch(name) or _is_number(name)) or (bracketed and ":" not in name):
        raise ValueError(wrong)
    return name, int(port) if port else None


def _normal(host: str) -> str:
    """Lower case, a foreign name in its ASCII form, a number in its one spelling, no final dot."""
    if _is_number(host):
        return str(ipaddress.ip_address(host))
    return host.lower().encode("idna").decode("ascii").rstrip(".")


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
