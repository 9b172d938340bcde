"""Exports, imports and migrations of objects, on a gateway that breaks off and fails as the tests say."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aidevos.cli import batches, object_import, transfers
from aidevos.cli.main import main
from tests.support.fake_gateway import FakeGateway, Lines, Request, problem

Output = pytest.CaptureFixture[str]
EXPORT, IMPORT, MIGRATE = (
    "GET /durable-objects/counter/export",
    "POST /durable-objects/import",
    "POST /durable-objects/counter/migrate",
)
AT = {"Export-Moment": "7.1"}
BUSY = {"status": 503, "problem": {"code": "overloaded", "detail": "too much waits"}}


@pytest.fixture(autouse=True)
def target(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIDEVOS_URL", gateway.url)
    monkeypatch.setenv("AIDEVOS_TOKEN", "t")
    monkeypatch.setattr(transfers, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(batches, "PAUSES", (0.0, 0.0))
    gateway.answers["GET /durable-objects"] = 200, {"items": [], "next_cursor": None, "count": 3}


def stored(id: str, value: Any = 1) -> dict[str, Any]:
    return {"type": "counter", "id": id, "state": {"value": value}}


def answers(*each: Any) -> Callable[[Request], Any]:
    """Answer one after another, and then always with the last."""
    left = list(each)
    return lambda request: left.pop(0) if len(left) > 1 else left[0]


def exports(gateway: FakeGateway) -> Iterator[dict[str, str]]:
    return (each.params for each in gateway.requests if each.path.endswith("/export"))


def test_an_export_that_breaks_off_goes_on_at_its_moment_after_its_last_whole_line(
    gateway: FakeGateway, tmp_path: Path, capsys: Output
) -> None:
    file = tmp_path / "counters.ndjson"
    gateway.answers[EXPORT] = answers(
        problem(503, "unavailable", "not now"),
        (200, Lines([stored("a"), stored("b", "torn")], AT, cut=True)),
        (200, Lines([stored("b"), stored("c")], AT)),
    )

    assert main(["objects", "export", "counter", "--project", "p", "--output", str(file)]) == 0

    assert [json.loads(line) for line in file.read_text().splitlines()] == [stored("a"), stored("b"), stored("c")]
    assert list(exports(gateway)) == [{"project": "p"}] * 2 + [{"project": "p", "moment": "7.1", "after": "a"}]
    assert capsys.readouterr().err == "3 objects\n"


def test_an_export_that_cannot_go_on_says_so_and_leaves_no_file(
    gateway: FakeGateway, tmp_path: Path, capsys: Output
) -> None:
    gateway.answers[EXPORT] = answers(
        (200, Lines([stored("a"), stored("b")], AT, cut=True)), problem(409, "conflict", "the moment is gone")
    )

    assert main(["objects", "export", "counter", "--output", str(tmp_path / "file")]) == 1

    line = (
        "aidevos: the export broke off after 1 objects and can't go on: run it again (conflict: the moment is gone)\n"
    )
    assert capsys.readouterr().err == line
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_breaks_off_again_and_again_ends(gateway: FakeGateway, tmp_path: Path) -> None:
    gateway.answers[EXPORT] = 200, Lines([stored("a")], AT, cut=True)

    assert main(["objects", "export", "counter", "--output", str(tmp_path / "file")]) == 1

    assert len(list(exports(gateway))) == 3


def test_an_import_is_sent_in_batches_and_names_the_lines_that_fail(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setattr(object_import, "BATCH", 2)
    lines = [json.dumps(stored(id)) for id in "abc"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n\n".join(lines).encode())))
    bad = {"status": 422, "object_id": "counter:b", "problem": {"code": "invalid", "detail": "not a number"}}
    gateway.answers[IMPORT] = answers(
        (200, Lines([{"line": 1, "status": 201, "outcome": "created"}, {"line": 2, **bad}])),
        (200, Lines([{"line": 1, "status": 200, "outcome": "skipped"}])),
    )

    assert main(["objects", "import", "-", "--on-conflict", "skip", "--dry-run"]) == 3

    assert [[each["id"] for each in request.body] for request in gateway.requests] == [["a", "b"], ["c"]]
    assert gateway.requests[0].params == {"on_conflict": "skip", "dry_run": "true"}
    output = capsys.readouterr()
    assert output.out == "would be created 1, replaced 0, skipped 1\n"
    assert output.err.splitlines()[0] == "line 3: counter:b: invalid: not a number"


def test_a_batch_for_which_the_fleet_has_no_room_is_sent_again_under_its_key(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text(json.dumps(stored("a")))
    done = {"line": 1, "status": 201, "outcome": "created"}
    gateway.answers[IMPORT] = answers((200, Lines([{"line": 1, **BUSY}])), (200, Lines([done])))

    assert main(["objects", "import", str(tmp_path / "file")]) == 0

    first, second = gateway.requests
    assert (first.body, first.headers["idempotency-key"]) == (second.body, second.headers["idempotency-key"])


def test_an_import_ends_at_its_first_failure_if_that_is_wanted(
    gateway: FakeGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_import, "BATCH_TO_STOP", 1)
    (tmp_path / "file").write_text("".join(json.dumps(stored(id)) + "\n" for id in "abc"))
    gateway.answers[IMPORT] = problem(413, "too-large", "a line can have at most 8 bytes")

    assert main(["objects", "import", str(tmp_path / "file"), "--stop"]) == 3

    assert len(gateway.requests) == 1


def test_states_are_rewritten_page_by_page(gateway: FakeGateway, capsys: Output) -> None:
    failed = [{"object_id": "counter:x", "code": "conflict", "detail": "its host is older"}]
    gateway.answers[MIGRATE] = answers(
        (200, {"examined": 200, "migrated": 3, "failed": failed, "next_cursor": "x"}),
        (200, {"examined": 5, "migrated": 2, "failed": []}),
    )

    assert main(["objects", "migrate", "counter", "--rate", "100000"]) == 3

    assert [(each.body["schema"], each.body["cursor"]) for each in gateway.requests] == [(1, None), (1, "x")]
    assert capsys.readouterr().out.splitlines()[1:] == [
        "counter  5          1",
        "counter:x: conflict: its host is older",
    ]


def test_a_trial_reads_states_with_the_code_of_this_machine(gateway: FakeGateway, capsys: Output) -> None:
    gateway.answers[EXPORT] = 200, Lines([stored("a"), stored("b", "many")], AT)

    assert main(["objects", "migrate", "--dry-run", "counter"]) == 3

    output = capsys.readouterr()
    assert output.out.splitlines()[1:] == [
        "counter  1       2        0      0      1",
        "counter:b: schema 1: value: Expected `int`, got `str`",
    ]
    assert output.err == ""


def test_a_trial_of_all_types_leaves_out_those_that_the_caller_may_not_see(
    gateway: FakeGateway, capsys: Output
) -> None:
    def answer(request: Request) -> Any:
        if request.path.endswith("/counter/export"):
            return 200, Lines([stored("a")], AT)
        return problem(403, "forbidden", "for the owner only")

    gateway.answer = answer  # type: ignore[method-assign]
    known = [{"type": name, "announced_at": "2026-11-30T00:00:00Z", "served": True} for name in ("counter", "cart")]
    gateway.answer = lambda request: (  # type: ignore[method-assign]
        (200, {"types": known}) if request.path == "/fleet/types" else answer(request)
    )

    assert main(["objects", "migrate", "--dry-run"]) == 0

    errors = capsys.readouterr().err.splitlines()
    assert "only the owner of the fleet may see their states" in errors[0]
    assert errors[1] == "aidevos: not tried: cart (name your own types as module:Class)"
