"""The pytest plugin runs async tests with a kit by itself, and beside other plugins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import asyncio
import pytest
from tests.support.shop import Basket, Stock
from aidevos.testing import ObjectKit

pytestmark = [pytest.mark.kit(types=[Basket, Stock], strict=False), *MARKS]

async def test_a_kit_is_open_in_the_loop_of_the_test(kit: ObjectKit) -> None:
    await kit.object(Basket, "a").add("tea", count=2)
    await asyncio.wait_for(kit.settle(), 5)
    assert kit.store.documents["stock"]["tea"]["state"]["counts"] == [2]

class TestGroup:
    async def test_each_test_has_a_kit_of_its_own(self, kit: ObjectKit) -> None:
        assert kit.store.documents["stock"] == {}

@pytest.mark.parametrize("number", [1, 2])
async def test_an_async_test_needs_no_kit(number: int) -> None:
    await asyncio.sleep(0)
    assert number
"""
WRONG = """
import pytest
from tests.support.shop import Basket

async def test_without_classes(kit): pass

@pytest.mark.kit(types=[Basket])
def test_without_await(kit): pass

async def test_that_fails(): assert 1 == 2
"""
WARNING = """
import warnings

def test_that_warns() -> None:
    for module in ("nats.micro.service", "shop"):
        text = f"datetime.datetime.utcnow() is deprecated in {module}"
        warnings.warn_explicit(text, DeprecationWarning, f"{module}.py", 1, module)
"""
ALONE = ("-p", "no:asyncio", "-p", "no:anyio")


def run(folder: Path, code: str, *options: str) -> str:
    """Run tests in a project of their own, and return what pytest prints."""
    (folder / "test_it.py").write_text(code)
    lean = ("-p", "no:schemathesis", "-p", "no:hypothesispytest", "-p", "no:xdist", "-p", "no:random_order")
    command = [sys.executable, "-m", "pytest", "--strict-markers", "--rootdir", folder, *lean, *options, folder]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.parametrize(
    ("marks", "options"),
    [
        ("[]", ALONE),
        ("[]", ()),
        ("[]", ("-o", "asyncio_mode=auto")),
        ("[pytest.mark.asyncio]", ()),
        ("[pytest.mark.anyio]", ("-p", "no:asyncio")),
    ],
    ids=["alone", "beside plugins", "by asyncio's mode", "by asyncio's mark", "by anyio"],
)
def test_async_tests_and_their_kits_run_without_configuration(
    tmp_path: Path, marks: str, options: tuple[str, ...]
) -> None:
    backend = '@pytest.fixture\ndef anyio_backend() -> str:\n    return "asyncio"\n'

    assert "4 passed" in run(tmp_path, TESTS.replace("MARKS", marks) + backend, *options)


def test_what_is_missing_is_said_in_a_line(tmp_path: Path) -> None:
    printed = run(tmp_path, WRONG, *ALONE)

    assert "needs classes: write @pytest.mark.kit(types=[Counter])" in printed
    assert "must be async def" in printed
    assert "assert 1 == 2" in printed
    assert "1 failed, 2 errors" in printed


def test_what_the_client_of_nats_warns_of_is_not_shown(tmp_path: Path) -> None:
    printed = run(tmp_path, WARNING, *ALONE)

    assert "deprecated in shop" in printed
    assert "deprecated in nats" not in printed
    assert "1 passed, 1 warning" in printed


def test_the_plugin_loads_nothing_of_the_framework_until_it_is_used() -> None:
    code = "import aidevos.pytest_plugin, sys; print(sorted({'msgspec', 'nats', 'aidevos.testing'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
