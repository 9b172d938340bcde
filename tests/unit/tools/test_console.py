"""The console's files in the repository."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tools.console import BUILT, build

# Of all that a browser loads, compressed.
MOST_BYTES = 300_000


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.timeout(240)
def test_the_files_are_those_that_the_code_builds(tmp_path: Path) -> None:
    build(tmp_path / "console")
    assert contents(tmp_path / "console") == contents(BUILT)


def test_the_files_are_small() -> None:
    assert sum(len(gzip.compress(content)) for content in contents(BUILT).values()) < MOST_BYTES


def test_no_file_names_another_origin_to_load_from() -> None:
    page = (BUILT / "index.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert "<script>" not in page


def test_the_licences_of_all_libraries_are_there() -> None:
    licences = (BUILT / "LICENSES.md").read_text()
    assert all(f"## {name} - " in licences for name in ("preact", "uplot", "@picocss/pico", "eventsource-parser"))
