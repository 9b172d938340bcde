"""Ports on this machine: checks whether one is free, and waits until one accepts connections."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from aidevos.settings import SettingsError

POLL = 0.02
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def reachable(host: str) -> str:
    """Return the address at which this machine reaches a server that listens on `host`."""
    return _ANY.get(host, host)


def authority(host: str, port: int) -> str:
    """Return `host:port` as it is written in a URL."""
    address = reachable(host)
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def check_free(host: str, port: int, variable: str) -> socket.socket:
    """Return a socket that holds the port until it is closed.

    Raises `SettingsError`, which names the variable, if the port is taken or the host unusable.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise SettingsError(f"AIDEVOS_HOST={host!r} can't be used: {error.strerror}") from None
    probe = socket.socket(family, kind, protocol)
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        probe.bind(address)
        probe.listen(1)
    except OSError as error:
        probe.close()
        reason = f"port {port} on {host} can't be used ({error.strerror})"
        raise SettingsError(f"{reason}: set {variable} to a free port") from None
    return probe


def wait_for_port(host: str, port: int, check: Callable[[], None], timeout: float) -> None:
    """Return once the port accepts connections, and call `check` after each failed attempt.

    Raises `TimeoutError` after `timeout` seconds, or any exception that `check` raises.
    """
    end = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((reachable(host), port), timeout=1).close()
            return
        except OSError:
            check()
            if time.monotonic() > end:
                raise TimeoutError(f"nothing answers on port {port} of {host}") from None
            time.sleep(POLL)
