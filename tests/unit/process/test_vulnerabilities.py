"""Servers with known vulnerabilities: a warning names them, and they start only if there is no other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from aidevos.process import vulnerabilities
from aidevos.process.vulnerabilities import Version, known, warnings
from aidevos.settings import load
from deploy.local import binaries, mongo_server
from tests.support.paths import ROOT

PATCHED = "8.0.24"
VULNERABLE = "6.0.5"


@pytest.mark.parametrize(
    ("version", "found"),
    [
        ((6, 0, 26), True),
        ((6, 0, 27), False),
        ((7, 0, 27), True),
        ((7, 0, 28), False),
        ((8, 0, 16), True),
        ((8, 0, 17), False),
        ((8, 2, 2), True),
        ((8, 2, 3), False),
        ((5, 0, 99), True),
        ((8, 1, 9), True),
        ((8, 3, 0), False),
        ((3, 4, 24), False),
    ],
)
def test_a_release_line_has_a_vulnerability_until_its_patch(version: Version, found: bool) -> None:
    assert ("CVE-2025-14847" in known("MongoDB", version)) == found


def test_a_warning_names_the_server_its_version_what_is_known_and_the_remedy() -> None:
    found = warnings({"NATS": (2, 15, 1), "MongoDB": (6, 0, 5)}, "set AIDEVOS_{}_URL")
    assert found == [
        "warning: MongoDB 6.0.5 has known vulnerabilities (CVE-2024-1351, CVE-2025-14847): set AIDEVOS_MONGO_URL"
    ]


def test_every_server_of_the_table_has_its_settings_named() -> None:
    assert vulnerabilities.SETTINGS.keys() == vulnerabilities.KNOWN.keys()


def install(folder: Path, version: str) -> Path:
    folder.mkdir()
    program = folder / "mongod"
    program.write_text(f"#!/bin/sh\necho 'db version v{version}'\n")
    program.chmod(0o755)
    return program


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a PATH folder with the servers `first` and `second`; no wheel carries a server."""
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "first"), str(tmp_path / "second"), os.defpath]))
    monkeypatch.setattr(binaries.importlib.util, "find_spec", lambda name: None)
    return tmp_path


def test_a_patched_server_is_preferred_to_one_that_comes_before_it(path: Path) -> None:
    install(path / "first", VULNERABLE)
    patched = install(path / "second", PATCHED)
    assert binaries.mongod() == patched


def test_a_vulnerable_server_is_taken_where_there_is_no_other(path: Path) -> None:
    install(path / "first", "4.4.0")
    vulnerable = install(path / "second", VULNERABLE)
    assert binaries.mongod() == vulnerable


def test_mongodb_offers_the_same_compressors_everywhere_and_not_zlib(tmp_path: Path) -> None:
    command = mongo_server.command(Path("mongod"), load({}, home=tmp_path))
    offered = command[command.index("--networkMessageCompressors") + 1]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["mongo"]
    assert f"--networkMessageCompressors={offered}" in compose["command"]
    assert "zlib" not in offered
    assert compose["image"].startswith("mongo:8.")
