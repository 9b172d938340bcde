"""The checks of `aidevos doctor` that need no server, and how they are run and shown."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from aidevos.cli.doctor import certificates, checks, clocks, command, machine, security, servers
from aidevos.cli.doctor.finding import Finding, Unreachable, error, ok, warning
from aidevos.cli.doctor.patient import Patient
from aidevos.cli.main import main
from aidevos.settings import load


def patient(**settings: Any) -> Patient:
    return Patient(load({}, **{"home": Path("/nonexistent"), **settings}))


async def well(patient: Patient) -> list[Finding]:
    return [ok("well", "fine")]


async def check_that_raises(patient: Patient) -> list[Finding]:
    raise ValueError("a mistake")


async def check_that_hangs(patient: Patient) -> list[Finding]:
    await asyncio.Event().wait()
    return []


async def check_that_needs(patient: Patient) -> list[Finding]:
    raise Unreachable("no fleet is up")


async def test_a_check_that_fails_or_hangs_hides_no_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "LIMIT", 0.05)

    found = await command.examine(patient(), [check_that_raises, check_that_hangs, check_that_needs, well])

    assert [(finding.check, finding.status) for finding in found] == [
        ("that raises", "error"),
        ("that hangs", "error"),
        ("that needs", "skipped"),
        ("well", "ok"),
    ]
    assert found[0].detail == "the check failed: ValueError: a mistake"


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ([ok("a", "fine")], 0),
        ([ok("a", "fine"), warning("b", "so so", "do it")], 1),
        ([warning("b", "so so", "do it"), error("c", "bad", "now")], 2),
        ([Finding(check="d", status="skipped", detail="no fleet")], 0),
    ],
)
def test_the_exit_status_tells_the_worst(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], found: list[Finding], status: int
) -> None:
    async def give(patient: Patient) -> list[Finding]:
        return found

    monkeypatch.setattr(checks, "CHECKS", (give,))

    assert main(["doctor", "--json"]) == status
    assert [each["status"] for each in json.loads(capsys.readouterr().out)] == [each.status for each in found]


def test_the_table_says_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async def give(patient: Patient) -> list[Finding]:
        return [warning("disk", "nearly full", "make room")]

    monkeypatch.setattr(checks, "CHECKS", (give,))
    main(["doctor"])

    shown = capsys.readouterr().out
    assert "nearly full  make room" in shown
    assert shown.endswith("0 ok, 1 warnings, 0 errors, 0 skipped\n")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "keys").mkdir(mode=0o700)
    tmp_path.chmod(0o700)
    return tmp_path


def write(path: Path, mode: int) -> None:
    path.touch()
    path.chmod(mode)


async def test_a_secret_that_others_may_read_is_found(home: Path) -> None:
    write(home / "keys" / "signing.json", 0o600)
    (before,) = await security.check_files(patient(home=home))
    write(home / "keys" / "signing.json", 0o644)
    (found,) = await security.check_files(patient(home=home))

    assert before.status == "ok"
    assert found.status == "error"
    assert "keys/signing.json" in found.detail
    assert "chmod" in found.advice


async def test_a_home_that_others_may_enter_is_found(home: Path) -> None:
    await asyncio.to_thread(home.chmod, 0o755)
    (found,) = await security.check_files(patient(home=home))

    assert found.status == "error"


async def test_a_weak_or_missing_password_is_found() -> None:
    found = await security.check_passwords(
        patient(admin_password="password1234", nats_url="nats://somewhere:4222", mongo_url="mongodb://u:short@h/")
    )

    assert [(finding.status, finding.detail.split(":")[0]) for finding in found] == [
        ("error", "the first administrator's"),
        ("error", "NATS asks for no password"),
        ("error", "that of MongoDB"),
    ]


async def test_a_secret_in_a_variable_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIDEVOS_ADMIN_PASSWORD", "correct horse")
    monkeypatch.setenv("AIDEVOS_MONGO_URL", "mongodb://localhost/")
    (found,) = await security.check_environment(patient())

    assert found.status == "warning"
    assert found.detail == "AIDEVOS_ADMIN_PASSWORD hold secrets"
    assert "AIDEVOS_ADMIN_PASSWORD_FILE" in found.advice


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"nats_url": "nats://u:p@127.0.0.1:4222", "mongo_url": "mongodb://u:p@[::1]:27017/"}, ["ok"]),
        ({"nats_url": "tls://u:p@nats.example.org:4222", "mongo_url": "mongodb://u:p@db:1/?tls=true"}, ["ok"]),
        ({"nats_url": "nats://u:p@nats.example.org:4222"}, ["error"]),
        ({"mongo_url": "mongodb://u:p@127.0.0.1:1,10.0.0.1:2/?replicaSet=rs"}, ["error"]),
        ({"host": "0.0.0.0"}, ["warning"]),
        ({"public_url": "http://api.example.org"}, ["warning"]),
        ({"public_url": "https://api.example.org"}, ["ok"]),
    ],
)
async def test_what_leaves_this_machine_without_tls_is_found(settings: dict[str, str], status: list[str]) -> None:
    assert [finding.status for finding in await security.check_tls(patient(**settings))] == status


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"cors_origins": "*"}, ["warning"]),
        ({"cors_origins": "https://app.example.org"}, ["ok"]),
        ({"trusted_proxies": "0.0.0.0/0"}, ["error"]),
        ({"trusted_proxies": "10.0.0.1, ::/0"}, ["error"]),
        ({"trusted_proxies": "10.0.0.0/8"}, ["ok"]),
    ],
)
async def test_trust_without_limit_is_found(settings: dict[str, str], status: list[str]) -> None:
    assert [finding.status for finding in await security.check_origins(patient(**settings))] == status


@pytest.mark.parametrize(("parsed", "status"), [({}, "warning"), ({"compressors": "snappy"}, "ok")])
async def test_a_mongodb_with_zlib_is_found(monkeypatch: pytest.MonkeyPatch, parsed: Any, status: str) -> None:
    async def ask_mongo(self: Patient, work: Any) -> Any:
        return {"net": {"compression": parsed}}

    monkeypatch.setattr(Patient, "ask_mongo", ask_mongo)
    (found,) = await security.check_compressors(patient())

    assert found.status == status


@pytest.mark.parametrize(
    ("server", "version", "status"),
    [
        ("NATS", (2, 10, 29), "error"),
        ("NATS", (2, 15, 1), "ok"),
        ("MongoDB", (6, 0, 5), "warning"),
        ("MongoDB", (8, 0, 25), "ok"),
        ("RabbitMQ", (3, 9, 0), "error"),
        ("RabbitMQ", (4, 2, 0), "ok"),
    ],
)
def test_an_old_or_vulnerable_server_is_found(server: str, version: Any, status: str) -> None:
    assert servers.judge(server, version).status == status


@pytest.mark.parametrize(("days", "status"), [(-2, "error"), (3, "warning"), (90, "ok")])
async def test_a_certificate_in_a_file_or_of_a_server_is_judged_by_its_end(
    tmp_path: Path, days: int, status: str
) -> None:
    ends = datetime.now(UTC) + timedelta(days=days)
    issued = trustme.CA().issue_cert("localhost", not_before=ends - timedelta(days=30), not_after=ends)
    file = tmp_path / "certificate.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(str(file))
    with tls_server(file) as port:
        settings = {"tls_certificate": str(file), "event_bus_url": f"amqps://u:p@localhost:{port}/"}
        found = await certificates.check_certificates(patient(**settings))

    assert [finding.status for finding in found] == [status, status]
    assert f"{ends:%Y-%m-%d}" in found[1].detail


@contextmanager
def tls_server(certificate: Path) -> Iterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with context.wrap_socket(client, server_side=True):
                pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(5)


@pytest.mark.parametrize(("free", "status"), [(50, "ok"), (9, "warning"), (2, "error")])
def test_a_disk_without_room_is_found(free: int, status: str) -> None:
    assert machine.judge("disk", "a disk", free, 100).status == status


@pytest.mark.parametrize(("there", "skew"), [(100.5, 0.0), (99.0, -1.0), (107.0, 6.0), (100.0, 0.0), (101.0, 0.0)])
def test_the_time_of_the_question_counts_for_no_skew(there: float, skew: float) -> None:
    assert clocks.skew(100.0, there, 101.0) == skew
