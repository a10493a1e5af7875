"""No network beyond this machine in tests: a connection elsewhere is a loud error, a name look-up finds nothing.

Python's own sockets are covered (asyncio, httpx, pynetdicom, redis-py, huggingface_hub); libraries in C that open
sockets of their own (libpq) are not.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest


class OutsideConnectionError(RuntimeError):
    """A test tried to reach another machine.

    Not an OSError: code that takes a failed connection for "the peer is down" must not hide it.
    """


def is_this_machine(host: object) -> bool:
    """Return whether a host name or address means this machine (an empty or unspecified one does)."""
    name = host.decode() if isinstance(host, bytes) else host
    if name is None or name in ("", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(str(name).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def refuse_other_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the socket functions that lead to other machines, until `monkeypatch` is undone."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def check(sock: socket.socket, address: Any) -> None:
        if sock.family in (socket.AF_INET, socket.AF_INET6) and not is_this_machine(address[0]):
            raise OutsideConnectionError(f"tests stay on this machine, but something connects to {address[0]}")

    def guarded_connect(sock: socket.socket, address: Any) -> None:
        check(sock, address)
        connect(sock, address)

    def guarded_connect_ex(sock: socket.socket, address: Any) -> int:
        check(sock, address)
        return connect_ex(sock, address)

    def guarded_getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        if is_this_machine(host) or _is_address(host):
            return getaddrinfo(host, *args, **options)
        raise socket.gaierror(socket.EAI_NONAME, f"tests stay on this machine and look up no names: {host!r}")

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)


def _is_address(host: object) -> bool:
    """Return whether it is a numeric address, which needs no look-up (the connection to it is refused later)."""
    try:
        ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host))
    except ValueError:
        return False
    return True
