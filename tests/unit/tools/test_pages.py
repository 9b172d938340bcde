"""The documentation pages that are generated from code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import msgspec
import pytest

from aidevos.contracts.errors import CODES
from aidevos.settings import PREFIX, Settings
from tests.support.paths import ROOT
from tools import pages

PAGES = pages.pages()


def raised_codes() -> Iterator[str]:
    """Yield the codes of all failures that the code raises with a literal code."""
    for folder in ("libs", "services", "deploy"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Failure") and node.args:
                    code = node.args[0]
                    if isinstance(code, ast.Constant) and isinstance(code.value, str):
                        yield code.value


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_page_is_what_the_code_says(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == PAGES[name], "run `python -m tools.pages`"


def test_the_catalogue_has_an_entry_for_every_code_that_is_raised() -> None:
    raised = set(raised_codes())
    headings = set(re.findall(r"^## (.+)$", PAGES["errors.md"], re.MULTILINE))

    assert {"invalid", "rate-limited", "insufficient-funds"} <= raised
    assert {code for code in raised - headings if f"`{code}`" not in PAGES["errors.md"]} == set()
    assert headings == set(CODES)


def test_every_setting_has_a_meaning() -> None:
    rows = re.findall(rf"^\| `{PREFIX}(\w+)` \|.*\| (.*) \|$", PAGES["settings.md"], re.MULTILINE)

    assert [name.lower() for name, _ in rows] == [field.name for field in msgspec.structs.fields(Settings)]
    assert [name for name, meaning in rows if not meaning] == []


def test_a_setting_is_shown_with_its_unit_and_bounds() -> None:
    assert "| `AIDEVOS_LEASE` | `3` | seconds | 1 to 60 |" in PAGES["settings.md"]
    assert "| `AIDEVOS_MAX_BODY` | `8388608` (8 MiB) | bytes | 1024 to 67108864 |" in PAGES["settings.md"]
    assert "| `AIDEVOS_TOTP_ISSUER` | `AIDevOS` |  | `[^:]{1,64}` |" in PAGES["settings.md"]
