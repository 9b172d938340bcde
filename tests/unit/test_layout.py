"""The layout of tests: each test mirrors its package's path, and shared code is in tests/support."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

TESTS = ROOT / "tests"
SOURCES = {"services": ROOT, "deploy": ROOT, "tools": ROOT, "support": TESTS}
# A statement that may import a test module or fixtures. To parse all modules would take seconds.
IMPORT = re.compile(r"^[ \t]*((?:from|import) [^\n(]*(?:\([^)]*\))?)", re.MULTILINE)
PRIVATE = re.compile(r"\b(test_\w+|conftest)\b")


def imported(text: str) -> Iterator[str]:
    """Yield the names of test modules and fixtures that a module imports."""
    statements = (each for each in IMPORT.findall(text) if PRIVATE.search(each))
    for node in (node for each in statements for node in parse(each)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.startswith(("tests.", ".")) and PRIVATE.search(name))


def parse(statement: str) -> list[ast.stmt]:
    """Return a statement, or nothing if it is prose."""
    try:
        return ast.parse(statement).body
    except SyntaxError:
        return []


def read(file: Path) -> str:
    """Return the text of a file; nothing if another test has removed it meanwhile."""
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""


def test_no_module_imports_a_test_module_or_its_fixtures() -> None:
    assert {(str(file), name) for file in TESTS.rglob("*.py") for name in imported(read(file))} == set()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import tests.unit.test_layout", "tests.unit.test_layout"),
        ("def f():\n    from tests.unit.conftest import kit as other", "tests.unit.conftest.kit"),
        ("from tests.unit import (\n    kits,\n    test_links,\n)", "tests.unit.test_links"),
        ("from .conftest import (\n    kit,\n)", ".conftest.kit"),
    ],
)
def test_an_import_of_a_test_module_is_found(text: str, name: str) -> None:
    assert list(imported(f"'''Text\nfrom a test_that_fails'''\n{text}\n")) == [name]


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
