"""The servers' known vulnerabilities that a start warns about, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from nats.aio.client import Client

Version = tuple[int, int, int]


class Vulnerability(NamedTuple):
    """A vulnerability since release line `since`; `fixed` maps a release line to its first patch without it.

    A line that isn't in `fixed` has no fix if an older line has to be patched, or if it is older itself.
    """

    id: str
    since: tuple[int, int]
    fixed: dict[tuple[int, int], int]

    def affects(self, version: Version) -> bool:
        """True if this version has the vulnerability."""
        line, patch = version[:2], version[2]
        if line in self.fixed:
            return patch < self.fixed[line]
        return self.since <= line < max(self.fixed)


# Sources: the advisories of MongoDB (NVD) and of NATS (advisories.nats.io).
KNOWN = {
    "MongoDB": (
        Vulnerability("CVE-2024-1351", (4, 4), {(4, 4): 29, (5, 0): 25, (6, 0): 14, (7, 0): 6}),
        # Needs the compressor zlib.
        Vulnerability("CVE-2025-14847", (3, 6), {(6, 0): 27, (7, 0): 28, (8, 0): 17, (8, 2): 3}),
        Vulnerability("CVE-2026-9740", (7, 0), {(7, 0): 35, (8, 0): 24, (8, 2): 10, (8, 3): 3}),
    ),
    "NATS": (
        Vulnerability("CVE-2025-30215", (2, 2), {(2, 10): 27, (2, 11): 1}),
        Vulnerability("CVE-2026-33249", (2, 11), {(2, 11): 15, (2, 12): 6}),
    ),
}

# The part after AIDEVOS_ in the names of their settings.
SETTINGS = {"MongoDB": "MONGO", "NATS": "NATS"}


def known(server: str, version: Version) -> list[str]:
    """Return the IDs of the known vulnerabilities of this version of `MongoDB` or `NATS`."""
    return [vulnerability.id for vulnerability in KNOWN[server] if vulnerability.affects(version)]


def warnings(versions: Mapping[str, Version], remedy: str) -> list[str]:
    """Return a line about each vulnerable server; `remedy` may name the server as `{}`."""
    return [
        f"warning: {server} {'.'.join(map(str, version))} has known vulnerabilities ({', '.join(found)}): "
        + remedy.format(SETTINGS[server])
        for server, version in versions.items()
        if (found := known(server, version))
    ]


def nats_version(connection: Client) -> Version:
    """Return the version of the NATS server at the other end."""
    found = connection.connected_server_version
    return found.major, found.minor, found.patch
