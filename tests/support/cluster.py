"""The servers of a cluster, which a test controls one by one."""

from __future__ import annotations

from tests.support.servers import Server


class Cluster:
    """Servers by name."""

    _members: dict[str, Server]

    @property
    def members(self) -> list[str]:
        return [*self._members]

    def start_member(self, name: str) -> None:
        """Start a server, and return once it accepts connections."""
        self._members[name].start()

    def kill(self, name: str) -> None:
        self._members[name].kill()

    def pause(self, name: str) -> None:
        self._members[name].pause()

    def resume(self, name: str) -> None:
        self._members[name].resume()

    def runs(self, name: str) -> bool:
        return self._members[name].runs()

    def close(self) -> None:
        for member in self._members.values():
            member.close()
