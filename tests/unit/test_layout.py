"""The layout of tests: each test mirrors its package's path, and shared code is in tests/support."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT

TESTS = ROOT / "tests"
SOURCES = {"services": ROOT, "deploy": ROOT, "tools": ROOT, "support": TESTS}


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def test_no_module_imports_a_test_module_or_its_fixtures() -> None:
    private = re.compile(r"^(tests\.|\.).*\b(test_\w+|conftest)\b")
    found = {(str(file), name) for file in TESTS.rglob("*.py") for name in imported(file) if private.match(name)}

    assert found == set()


def test_what_tests_share_lies_in_support() -> None:
    own = {"__init__.py", "conftest.py"}
    folders = [TESTS / name for name in ("unit", "contract", "integration", "e2e", "faults")]
    files = {file for folder in folders for file in folder.rglob("*.py") if file.name not in own}

    assert {str(file) for file in files if not file.name.startswith("test_")} == set()


def test_unit_tests_lie_under_the_path_of_a_package() -> None:
    unit = TESTS / "unit"
    folders = {file.parent.relative_to(unit) for file in unit.rglob("test_*.py")} - {Path()}

    assert {
        folder for folder in folders if not (SOURCES.get(folder.parts[0], ROOT / "libs" / "aidevos") / folder).is_dir()
    } == set()
