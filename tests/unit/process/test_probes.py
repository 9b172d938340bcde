"""A process tells Kubernetes how it is itself: alive while its loop turns, and ready while it can do its work."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from aidevos.observability.exposition import content_type
from aidevos.observability.health import Health
from aidevos.process import probes
from aidevos.process.probes import answering_probes
from aidevos.settings import Settings, SettingsError
from tests.support.http import http_client
from tests.support.servers import free_port


async def test_a_process_is_alive_and_says_why_it_is_not_ready_and_since_when() -> None:
    settings, now, problems = Settings(probe_port=free_port()), [1_800_000_000.0], ["it has lapsed"]
    health = Health(lambda: now[-1])
    health.watch("lease", lambda: problems[-1])
    async with answering_probes(settings, health), client(settings) as http:
        await http.get("/health/live")
        now.append(now[-1] + 60)
        live, unready = await http.get("/health/live"), await http.get("/health/ready")
        problems.append("")
        ready = await http.get("/health/ready")

    found = {"part": "lease", "detail": "it has lapsed", "since": "2027-01-15T08:00:00.000Z", "status": "fail"}
    assert (live.status_code, live.json()) == (200, {"ok": False, "problems": [found]})
    assert (unready.status_code, unready.json()) == (503, live.json())
    assert (ready.status_code, ready.json()) == (200, {"ok": True, "problems": []})


async def test_a_process_shows_its_metrics() -> None:
    settings = Settings(probe_port=free_port())
    async with answering_probes(settings, Health()), client(settings) as http:
        answer = await http.get("/metrics")

    assert answer.headers["content-type"] == content_type(with_exemplars=False)
    assert "\naidevos_refused_tells_total " in answer.text


@pytest.mark.parametrize(("method", "path"), [("GET", "/fleet"), ("POST", "/health/live"), ("POST", "/metrics")])
async def test_nothing_else_is_answered(method: str, path: str) -> None:
    settings = Settings(probe_port=free_port())
    async with answering_probes(settings, Health()), client(settings) as http:
        answer = await http.request(method, path)

    assert answer.status_code == 404


async def test_a_client_that_sends_slowly_or_too_much_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "HEAD_WITHIN", 0.1)
    settings = Settings(probe_port=free_port())
    async with answering_probes(settings, Health()):
        for sent in (b"GET /health/live HT", b"x" * (3 * probes.MAX_HEAD)):
            reader, writer = await asyncio.open_connection("127.0.0.1", settings.probe_port)
            writer.write(sent)
            try:
                answer = await asyncio.wait_for(reader.read(), 5)
            except ConnectionError:
                answer = b""
            writer.close()

            assert answer == b""


async def test_nobody_listens_without_a_port() -> None:
    async with answering_probes(Settings(), Health()):
        pass


async def test_a_port_that_is_taken_is_one_line() -> None:
    settings = Settings(probe_port=free_port(), host="192.0.2.1")
    with pytest.raises(SettingsError, match="AIDEVOS_PROBE_PORT"):
        async with answering_probes(settings, Health()):
            pass


def client(settings: Settings) -> httpx2.AsyncClient:
    return http_client(base_url=f"http://127.0.0.1:{settings.probe_port}")
