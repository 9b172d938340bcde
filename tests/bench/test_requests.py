"""The comparison of requests: its figures, its tables and plots, and the load's open loop."""

from __future__ import annotations

import socket
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from tests.bench import pages
from tests.bench.load import Order, Sample, over_http
from tests.bench.requests import OWN, Result, process_name

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
STALL = 0.3


def result(workload: str, contestant: str, scale: float = 1.0) -> Result:
    samples = [Sample(rate * scale, 1.0, 2.0, 100) for rate in (900, 1000, 1200)]
    cpu = [{"http_gateway": 100.0, "mongod": 50.0}, {"http_gateway": 120.0}, {"http_gateway": 300.0}]
    return Result(workload, contestant, samples, cpu, [100.0, 100.0, 200.0], Sample(500 * scale, 1.5, 2.5, 50, 9.0))


def test_figures_are_medians_of_the_rounds_and_ratios_are_those_within_a_round() -> None:
    found = result("query", OWN)

    assert (found.rate, found.spread, found.cost) == (1000, 0.3, 150)
    assert found.chains == 1.5
    assert (found.cost_of("http_gateway"), found.cost_of("mongod")) == (120, 0)


def test_each_result_has_a_row_and_the_product_its_costs_by_process() -> None:
    shown = pages.markdown([result("query", OWN), result("query", "plain", 0.5)])

    assert "| query | AIDevOS | 1,000 | 30% | 150 | 1.50 | 1.5 / 2.5 / 9.0 |" in shown
    assert "| query | plain | 500 |" in shown
    assert "| query | 150 | 120 | 0 | 0 | 0 | 0 | 0 |" in shown


def test_a_contestant_that_answers_nothing_in_time_has_a_row_too() -> None:
    found = Result("query", "plain", [Sample(0.0, 1.0, 1.0, 1)], [{"mongod": 70.0}], [100.0])

    assert "| query | plain | 0 | 0% | 70 | 0.70 |  |" in pages.markdown([found])
    assert "plain" in pages.plots([found])["rates"]


def test_a_report_is_a_page_with_plots_whose_bars_are_as_long_as_their_values(tmp_path: Path) -> None:
    pages.save([result("query", OWN), result("query", "plain <2>", 0.5)], tmp_path, "now")

    assert {path.name for path in tmp_path.iterdir()} == {"now.md", "now-rates.svg", "now-cpu.svg", "now-latency.svg"}
    plot = ET.fromstring((tmp_path / "now-rates.svg").read_text())
    _, own, other = plot.iter("{http://www.w3.org/2000/svg}rect")
    assert float(own.get("width", 0)) == pytest.approx(2 * float(other.get("width", 0)), rel=0.01)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("/venv/bin/python -P -m services.http_gateway", "http_gateway"),
        ("/venv/bin/python -m tests.bench.floors http-echo", "http-echo"),
        ("/usr/bin/mongod --port 7", "mongod"),
        ("/peers/bin/python /peers/bin/hypercorn app", "hypercorn"),
    ],
)
def test_a_process_is_named_by_what_it_runs(line: str, name: str) -> None:
    assert process_name(line.split()) == name


@pytest.fixture
def stalling_server() -> Iterator[tuple[str, int]]:
    """Yield the address of a server that answers each connection at once, except for one stall of all of them."""
    listener = socket.create_server(("127.0.0.1", 0))
    answers = cycle((ANSWER, CHUNKED))
    lock, stalled = threading.Lock(), threading.Event()
    began = time.perf_counter()

    def serve(connection: socket.socket) -> None:
        with connection:
            while connection.recv(1000):
                with lock:
                    if not stalled.is_set() and time.perf_counter() > began + 0.6:
                        stalled.set()
                        time.sleep(STALL)
                    answer = next(answers)
                connection.sendall(answer)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()
    listener.close()


def test_an_open_loop_counts_the_wait_of_requests_that_were_due_during_a_stall(
    stalling_server: tuple[str, int],
) -> None:
    order = Order(
        kind="http",
        in_flight=2,
        seconds=1.0,
        rate=200.0,
        address=stalling_server,
        requests=[b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"],
    )

    sample = over_http(order)

    # 60 of 200 requests were due during the stall; a closed loop would have sent two, and shown one percent.
    assert sample.rate == pytest.approx(200, rel=0.1)
    assert sample.p99 > 1000 * STALL * 0.8
    assert sample.p50 < 1000 * STALL / 2
