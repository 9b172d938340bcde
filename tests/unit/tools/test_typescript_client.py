"""The client for TypeScript: its code, and its file in the repository, which the gateway serves."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tools.typescript_client import SERVED, bundle, check

# Compressed, of all entry points together.
MOST_BYTES = 15_000


def test_the_files_are_those_that_the_code_builds_and_small(tmp_path: Path) -> None:
    bundle(tmp_path)

    built = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(built) == {"index.js", "react.js"}
    assert built["index.js"] == SERVED.read_bytes()
    assert sum(len(gzip.compress(content)) for content in built.values()) < MOST_BYTES


@pytest.mark.timeout(240)
def test_the_code_and_the_examples_of_its_types_are_correct() -> None:
    check()
