"""Running the pages of the documentation finds their errors."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.snippets import OUTPUT, Snippet, failures

PREPARE = Snippet("page", 1, "bash", "", "mkdir inside\ncd inside\nname=ada\n")
FILE = Snippet("page", 5, "python", "hello.py", "import sys\n\nprint('hello', sys.argv[1])\n")
RUN = Snippet("page", 9, "bash", "", 'python3 hello.py "$name"\n')


async def test_a_page_is_one_session_and_its_files_are_where_it_is(tmp_path: Path) -> None:
    page = [PREPARE, FILE, RUN, Snippet("page", 12, "text", OUTPUT, "hello...a\n")]

    assert await failures([page], tmp_path, os.environ) == []
    assert (tmp_path / "0" / "inside" / "hello.py").read_text() == FILE.code


async def test_what_is_printed_otherwise_is_told(tmp_path: Path) -> None:
    page = [PREPARE, FILE, RUN, Snippet("page", 12, "text", OUTPUT, "hello bob\n")]

    assert await failures([page], tmp_path, os.environ) == ["page:12 doesn't show what is printed:\nhello ada\n"]


async def test_the_block_that_fails_is_told(tmp_path: Path) -> None:
    first = [PREPARE, RUN, Snippet("page", 12, "bash", "", "echo never\n")]

    (failure,) = await failures([first], tmp_path, os.environ)

    assert failure.startswith("page:9 ends with 2")
    assert "hello.py" in failure
