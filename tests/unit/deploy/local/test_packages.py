"""Missing system packages: installed if permitted, replaced by containers, or named in one line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from aidevos.settings import SettingsError
from deploy.local import packages
from deploy.local.packages import INSTALL, Need, provide
from tests.support import needs

INSTALLER = """#!/bin/sh
echo "$@ $DEBIAN_FRONTEND" >> "$LOG"
"$POLICY" >> "$LOG" 2>&1
echo "services: $?" >> "$LOG"
"""


class Machine:
    """A machine with its programs and its user; packages become programs once they are installed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *programs: str, root: bool = False, asks: bool = False) -> None:
        self.installed: set[str] = set()
        self.lines: list[list[str]] = []
        self.refuses = False
        self._asks = asks
        monkeypatch.setattr(packages.shutil, "which", lambda name: name if name in programs else None)
        monkeypatch.setattr(packages.os, "geteuid", lambda: 0 if root else 1000)
        monkeypatch.setattr(packages.subprocess, "run", self._run)
        monkeypatch.setattr(packages.sys.stdin, "isatty", lambda: False, raising=False)

    def need(self, package: str) -> Need:
        return Need(package.upper(), (package,), f"set {package.upper()}_URL", lambda: package in self.installed)

    def _run(self, line: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        if line[-2:] == ["-n", "true"]:
            return subprocess.CompletedProcess(line, int(self._asks))
        self.lines.append(line)
        if not self.refuses:
            self.installed.update(line[line.index(packages.POLICY) + 1 :])
        return subprocess.CompletedProcess(line, int(self.refuses))


def test_what_is_there_is_left_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(monkeypatch, "apt-get", root=True)
    machine.installed = {"queue", "browser"}

    provide([machine.need("queue"), machine.need("browser")])

    assert (machine.lines, capsys.readouterr().out) == ([], "")


def test_containers_come_before_packages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(monkeypatch, "apt-get", root=True)

    provide([machine.need("queue"), machine.need("browser")], has_engine=lambda: True)

    assert machine.lines == []
    assert capsys.readouterr().out == "QUEUE and BROWSER will run in containers: not found on this machine.\n"


def test_containers_replace_the_servers_of_the_tests_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(monkeypatch, "apt-get", root=True)
    for name in ("LIBCURL", "PROMTOOL", "RABBITMQ", "BROWSER"):
        monkeypatch.setattr(needs, name, machine.need(name.lower()))
    monkeypatch.setattr(needs, "docker_answers", lambda: True)

    assert needs.main() == 0

    assert machine.installed == {"libcurl", "promtool"}
    assert "RABBITMQ and BROWSER will run in containers" in capsys.readouterr().out


@pytest.mark.parametrize(("root", "prefix"), [(True, []), (False, ["sudo"])])
def test_what_is_missing_is_installed_by_root_and_by_sudo_after_saying_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], root: bool, prefix: list[str]
) -> None:
    machine = Machine(monkeypatch, "apt-get", "sudo", root=root)
    machine.installed = {"queue"}

    provide([machine.need("queue"), machine.need("browser")])

    assert machine.lines == [[*prefix, "sh", "-c", INSTALL, packages.POLICY, "browser"]]
    assert capsys.readouterr().out == "Installing BROWSER with apt-get: browser …\n"


@pytest.mark.parametrize(
    ("programs", "root", "asks"),
    [((), True, False), (("apt-get",), False, False), (("apt-get", "sudo"), False, True)],
    ids=["no package manager", "no sudo", "sudo asks for a password"],
)
def test_else_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, programs: tuple[str, ...], root: bool, asks: bool
) -> None:
    machine = Machine(monkeypatch, *programs, root=root, asks=asks)

    with pytest.raises(SettingsError) as refused:
        provide([machine.need("queue"), machine.need("browser")])

    assert machine.lines == []
    assert str(refused.value) == (
        "not found: QUEUE and BROWSER. Install Debian's queue and browser, or set QUEUE_URL or set BROWSER_URL"
    )


def test_an_installation_that_fails_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, "apt-get", root=True)
    machine.refuses = True

    with pytest.raises(SettingsError, match="not found: QUEUE"):
        provide([machine.need("queue")])


@pytest.mark.parametrize("present", [False, True])
def test_no_service_is_started_by_its_installation(tmp_path: Path, present: bool) -> None:
    """A fake apt-get asks the policy, as packages do."""
    log, policy, installer = tmp_path / "log", tmp_path / "policy-rc.d", tmp_path / "apt-get"
    installer.write_text(INSTALLER)
    installer.chmod(0o755)
    if present:
        policy.write_text("#!/bin/sh\nexit 7\n")
        policy.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(log), "POLICY": str(policy)}

    subprocess.run(["sh", "-c", INSTALL, str(policy), "queue", "browser"], env=environment, check=True)

    services = f"services: {7 if present else 101}"
    install = "-qqy install --no-install-recommends queue browser noninteractive"
    assert [line.strip() for line in log.read_text().splitlines()] == [
        "-qq update noninteractive",
        services,
        install,
        services,
    ]
    assert policy.exists() == present
