"""A private network, in which any two members can be cut off from each other.

Each member has an address and a network namespace of its own, on a bridge. That needs root and `ip`, and a process that
`unshare` has given a network and mounts of its own, so that nothing outside changes. Elsewhere, `Loopback` stands in:
all members share one address, and nothing can be cut.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

# Set for the process that has a network of its own.
PRIVATE = "TEST_PRIVATE_NETWORK"
NAMESPACES = Path("/run/netns")
NEW_NETWORK = 0x40000000


class Network(Protocol):
    """The network of a test's servers and processes, by the names of its members."""

    can_cut: bool

    def address(self, member: str) -> str:
        """Return the address of a member, which joins with the first call."""

    def enter(self, member: str) -> list[str]:
        """Return the beginning of the command line that runs a program as this member."""

    def namespace(self, member: str) -> str:
        """Return the file that a process of this member enters, or an empty string."""


class Loopback:
    """The network of this machine, where everything has the address 127.0.0.1."""

    can_cut = False

    def address(self, member: str) -> str:
        return "127.0.0.1"

    def enter(self, member: str) -> list[str]:
        return []

    def namespace(self, member: str) -> str:
        return ""


LOOPBACK = Loopback()


class PrivateNetwork:
    """A network that only this process and its children have."""

    can_cut = True
    PREFIX = "10.77.0."

    def __init__(self) -> None:
        self._addresses: dict[str, str] = {}
        NAMESPACES.mkdir(parents=True, exist_ok=True)
        _run("mount -t tmpfs tmpfs", str(NAMESPACES))
        _run("ip link set lo up")
        _run("ip link add bridge type bridge")
        _run(f"ip addr add {self.PREFIX}1/24 dev bridge")
        _run("ip link set bridge up")

    def address(self, member: str) -> str:
        if member not in self._addresses:
            number = len(self._addresses) + 2
            self._addresses[member] = f"{self.PREFIX}{number}"
            _run(f"ip netns add {member}")
            _run(f"ip link add veth{number} type veth peer name eth0 netns {member}")
            _run(f"ip link set veth{number} master bridge up")
            self._within(member, f"addr add {self._addresses[member]}/24 dev eth0")
            self._within(member, "link set eth0 up")
            self._within(member, "link set lo up")
        return self._addresses[member]

    def enter(self, member: str) -> list[str]:
        self.address(member)
        return ["ip", "netns", "exec", member]

    def namespace(self, member: str) -> str:
        self.address(member)
        return str(NAMESPACES / member)

    def cut(self, member: str, others: Iterable[str]) -> None:
        """Drop all packets from a member to these others. Connections stay open, and nothing comes back on them."""
        for other in others:
            self._within(member, f"route add blackhole {self.address(other)}/32")

    def join(self, member: str, others: Iterable[str]) -> None:
        """Undo `cut`."""
        for other in others:
            self._within(member, f"route del blackhole {self.address(other)}/32")

    def _within(self, member: str, command: str) -> None:
        _run(f"ip -n {member} {command}")


def find_network() -> Network:
    """Return the private network of this process if it has one, else that of the machine."""
    return PrivateNetwork() if os.environ.get(PRIVATE) else Loopback()


def can_be_private() -> bool:
    """Return True if this process may start another one in a private network."""
    programs = all(map(shutil.which, ("ip", "unshare", "mount")))
    return os.geteuid() == 0 and programs and not subprocess.run(["unshare", "--net", "--mount", "true"]).returncode


def private_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a Python module in a private network."""
    return ["env", f"{PRIVATE}=1", "unshare", "--net", "--mount", sys.executable, "-m", module, *arguments]


def enter_namespace(file: str) -> None:
    """Move this process, which has one thread, into a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(file) as opened:
        if libc.setns(opened.fileno(), NEW_NETWORK):
            raise OSError(ctypes.get_errno(), f"can't enter {file}")


def _run(command: str, *more: str) -> None:
    subprocess.run([*command.split(), *more], check=True, capture_output=True)
