"""README and the pages in `docs`: their snippets run unchanged, and the names in them exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import fields

from aidevos import id_from_name
from aidevos.cli.openapi import offline
from aidevos.cli.target import CONTEXT, TOKEN, URL
from aidevos.settings import Settings
from aidevos.variables import is_secret
from tests.support import shims
from tests.support.local_fleet import LocalFleet
from tests.support.paths import ROOT
from tests.support.snippets import OUTPUT, PAGES, Snippet, failures, snippets_of

pytestmark = pytest.mark.xdist_group("fleet")
FLEET = "the test has a fleet up, and tests/e2e/test_fleet.py runs this"
# Blocks that don't run, by their first words, and the reasons.
NOT_RUN = {
    "make up": FLEET,
    'make -C "$CLONE" down': FLEET,
    "make test": "this is one of its tests",
    "cd -\nmake down": FLEET,
    "docker compose": "it needs a Docker engine",
    "AIDEVOS_HOME=/srv/second": FLEET,
    ".venv/bin/supervisorctl": "other pages use the process that it restarts",
    ".venv/bin/python -m tests.bench": "it measures for minutes",
    "make bench-peers": "it installs other products, and measures for minutes",
}
# A page's pytest starts in half the time without the plugins of these tests. It is forked from a process that has
# already imported the others.
LEAN = (
    "-p no:schemathesis -p no:hypothesispytest -p no:xdist -p no:random_order "
    "-W ignore::pytest.PytestAssertRewriteWarning"
)
# Neither code nor output: diagrams and fragments of protocols.
SHOWN = ("mermaid", "text", "json", "http", "")


def can_run_node() -> bool:
    """Return True if Node is installed and npm reaches its registry."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return False
    asked = subprocess.run(["npm", "view", "@nats-io/transport-node", "version"], capture_output=True, timeout=60)
    return asked.returncode == 0


def runnable(page: Path, node: bool) -> list[Snippet]:
    """Return the blocks of a page that can run here; without Node, omit those that start it."""
    found = [each for each in snippets_of(page) if not each.code.startswith(tuple(NOT_RUN))]
    return found if node else [each for each in found if not re.search(r"^(node|npm) ", each.code, re.MULTILINE)]


@pytest.mark.timeout(400)
async def test_every_page_does_and_prints_what_it_says(shared_fleet: LocalFleet, tmp_path: Path) -> None:
    environment = {**shared_fleet.environment, "AIDEVOS_HOME": str(shared_fleet.home), "PYTEST_ADDOPTS": LEAN}
    node = can_run_node()
    pages = [runnable(page, node) for page in PAGES]

    if found := await failures([page for page in pages if page], tmp_path, environment, shims.environment()):
        pytest.fail("\n\n".join(found), pytrace=False)


def test_every_block_is_run_or_written_to_a_file_or_shown_for_a_known_reason() -> None:
    for page in PAGES:
        before = ""
        for each in snippets_of(page):
            assert each.language == "bash" or each.title or each.language in SHOWN, f"{each} is not run"
            if each.title == OUTPUT:
                assert before == "bash", f"{each} follows no block of bash"
            before = each.language if each.title in ("", OUTPUT) else before


def test_every_reason_not_to_run_a_block_is_needed() -> None:
    blocks = [each.code for page in PAGES for each in snippets_of(page)]

    assert [start for start in NOT_RUN if not any(code.startswith(start) for code in blocks)] == []


def test_every_target_and_variable_that_a_page_names_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    settings = {field.name.upper() for field in fields(Settings)}
    settings |= {name.removeprefix("AIDEVOS_") for name in (URL, TOKEN, CONTEXT)}
    settings |= {f"{field.name.upper()}_FILE" for field in fields(Settings) if is_secret(field)}

    for page in PAGES:
        text = page.read_text()
        for target in set(re.findall(r"`make ([a-z]+)`", text)):
            assert re.search(rf"^(\w+ )*{target}( \w+)*:", makefile, re.MULTILINE), f"{page.name}: make {target}"
        for variable in set(re.findall(r"AIDEVOS_([A-Z_]+)", text)):
            assert variable in settings, f"{page.name}: AIDEVOS_{variable}"


def test_every_request_in_a_table_is_in_the_openapi_document() -> None:
    paths = json.loads(offline())["paths"]
    known = {f"{method.upper()} {_shape(path)}" for path, methods in paths.items() for method in methods}

    for page in PAGES:
        for method, path in re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/[^`?\s]*)", page.read_text()):
            assert f"{method} {_shape(path)}" in known, f"{page.name}: {method} {path}"


def _shape(path: str) -> str:
    return re.sub(r"{[^}]*}", "{}", path)


def test_the_names_in_the_table_of_the_protocol_have_the_ids_that_it_gives() -> None:
    text = (ROOT / "docs" / "nats-protocol.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (`[^`]+`|one space) \| `([A-Za-z0-9_-]+)` \|$", text, re.MULTILINE)

    assert len(rows) == 4
    for type, name, id in rows:
        assert id_from_name(type, " " if name == "one space" else name.strip("`")) == id


def test_the_readme_is_two_screens_long() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200
