"""Tests that share what is dear to start go to one process, and those that take long come first."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any
from unittest.mock import Mock

import pytest

from tests.support import scheduling

pytest_plugins = ["pytester"]

FIXTURES = {
    "conftest": """
        @pytest.fixture(scope="module")
        def passed_on(): ...
    """,
    "console/__init__": "",
    "console/conftest": """
        @pytest.fixture(scope="package")
        def browser(): ...
    """,
    "console/test_pages": """
        @pytest.fixture(scope="module")
        def user(browser): ...

        def test_page(user, passed_on): ...
    """,
    "test_fleet": """
        @pytest.fixture(scope="module")
        def fleet(): ...

        def test_rules(passed_on): ...
        def test_fleet(fleet): ...
        @pytest.mark.xdist_group("broker")
        def test_broker(): ...
        @pytest.mark.parametrize("bus", ["jetstream", "rabbitmq"])
        def test_bus(bus): ...

        class TestLong:
            @pytest.mark.timeout(600)
            def test_long(self, fleet): ...
            @pytest.mark.parametrize("at", ["a@b"])
            def test_quick(self, at): ...
    """,
}
GROUPS = {
    "console/test_pages.py::test_page": "console",
    "test_fleet.py::test_rules": None,
    "test_fleet.py::test_fleet": "test_fleet.py",
    "test_fleet.py::test_broker": "broker",
    "test_fleet.py::test_bus[jetstream]": None,
    "test_fleet.py::test_bus[rabbitmq]": "rabbitmq",
    "test_fleet.py::TestLong::test_long": "test_fleet.py",
    "test_fleet.py::TestLong::test_quick[a@b]": None,
}


@pytest.fixture
def items(pytester: pytest.Pytester) -> list[pytest.Item]:
    for name, text in FIXTURES.items():
        pytester.path.joinpath(name).parent.mkdir(exist_ok=True)
        code = "\n".join(line.removeprefix("        ") for line in text.splitlines())
        pytester.path.joinpath(f"{name}.py").write_text(f"import pytest\n{code}")
    found, _ = pytester.inline_genitems("-p", "no:asyncio")
    return found


def test_a_group_is_a_mark_or_the_widest_place_whose_fixture_is_shared(items: list[pytest.Item]) -> None:
    assert {item.nodeid: scheduling.group(item) for item in items} == GROUPS


def test_the_scheduler_reads_the_groups_behind_the_ids(items: list[pytest.Item]) -> None:
    split = scheduling.Scheduling._split_scope
    seen = [split(None, each.nodeid) for each in scheduling.named(items)]  # type: ignore[arg-type]

    assert seen == [GROUPS[item.nodeid] or item.nodeid for item in items]


def test_a_group_comes_as_early_as_the_longest_of_its_tests(items: list[pytest.Item]) -> None:
    scheduling.arrange(items)

    assert [item.name for item in items][:3] == ["test_fleet", "test_long", "test_page"]


@pytest.mark.parametrize(
    ("worker", "order"),
    [
        ("gw1", ["tests/e2e/a.py::a", "tests/integration/b.py::b", "tests/integration/c.py::c"]),
        ("gw2", ["tests/integration/b.py::b", "tests/integration/c.py::c", "tests/e2e/a.py::a"]),
    ],
)
def test_every_third_process_first_takes_the_tests_that_mostly_wait(worker: str, order: list[str]) -> None:
    tests = ["tests/e2e/a.py::a", "tests/integration/b.py::b", "tests/integration/c.py::c"]
    taken: list[str] = []
    node = Mock()
    node.gateway.id = worker
    node.send_runtest_some = lambda indexes: taken.extend(tests[index] for index in indexes)
    scheduler: Any = scheduling.Scheduling.__new__(scheduling.Scheduling)
    scheduler.workqueue = OrderedDict((test, {test: False}) for test in tests)
    scheduler.assigned_work, scheduler.registered_collections = {}, {node: tests}

    for _ in tests:
        scheduler._assign_work_unit(node)

    assert taken == order
