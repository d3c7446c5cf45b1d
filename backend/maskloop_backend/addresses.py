"""Connections to public and to named addresses only: a name is resolved once, checked, connected to by number.

Sits below httpcore, so that no redirect, odd spelling of a number or changing DNS answer gets around it.
"""

import ipaddress
import socket
import time
from ssl import SSLContext
from typing import Any, Literal

import httpcore

# Metadata services of clouds that do not answer on a link-local address: Azure, Alibaba, AWS by IPv6.
METADATA = {ipaddress.ip_address(number) for number in ("168.63.129.16", "100.100.100.200", "fd00:ec2::254")}
# An IPv4 address stands in the last 32 bits (NAT64, IPv4-compatible).
EMBEDDED = [ipaddress.IPv6Network(n) for n in ("64:ff9b::/96", "::/96")]
# Private NAT64, site-local, Teredo.
REFUSED = [ipaddress.IPv6Network(n) for n in ("64:ff9b:1::/48", "fec0::/10", "2001::/32")]

# Kinds of address that a host has which the operator names; never a metadata service or link-local.
NAMEABLE = {"loopback", "private", "not public"}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Trust = Literal["own", "named", "none"]
"""Label Studio itself may be anywhere, a host that the operator names in the network, any other on the internet."""


class AddressRefused(Exception):
    """A name leads to an address that must not be connected to; httpcore lets it pass unchanged.

    `nameable`: it would be connected to if the operator named the host.
    """

    def __init__(self, number: str, reason: str) -> None:
        super().__init__(f"leads to {number}, which is {reason}")
        self.nameable = reason in NAMEABLE


def forbidden(address: Address) -> str | None:
    """Why an address must not be connected to, or None for one of the public internet."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and any(address in network for network in EMBEDDED) and int(address) > 1:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return forbidden(inner)
        if any(address in network for network in REFUSED):
            return "reserved"
    if address in METADATA:
        return "a metadata service"
    for kind in ("loopback", "link_local", "multicast", "unspecified", "private", "reserved"):
        if getattr(address, f"is_{kind}"):
            return kind.replace("_", "-")
    return None if address.is_global else "not public"


class GuardedNetwork(httpcore.NetworkBackend):
    """Resolves a name once, checks every address, connects to a checked one; nothing outlives the deadline."""

    def __init__(self, deadline: float, *, trust: Trust) -> None:
        self.deadline, self.trust = deadline, trust
        self.backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        numbers = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for number in numbers:
            reason = None if self.trust == "own" else forbidden(ipaddress.ip_address(number))
            if reason and not (self.trust == "named" and reason in NAMEABLE):
                raise AddressRefused(number, reason)
        failure: Exception = httpcore.ConnectError("no address")
        for number in numbers:
            try:
                stream = self.backend.connect_tcp(number, port, left(self.deadline, timeout))
                return _Stream(stream, self.deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


class _Stream(httpcore.NetworkStream):
    """A connection whose every operation ends at one deadline, so that a server cannot drip for ever."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self.stream, self.deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.stream.read(max_bytes, left(self.deadline, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.stream.write(buffer, left(self.deadline, timeout))

    def close(self) -> None:
        self.stream.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        inner = self.stream.start_tls(ssl_context, server_hostname, left(self.deadline, timeout))
        return _Stream(inner, self.deadline)

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)


def left(deadline: float, timeout: float | None) -> float:
    left = min(deadline - time.monotonic(), timeout if timeout is not None else 3600.0)
    if left <= 0:
        raise httpcore.ReadTimeout("deadline")
    return left
