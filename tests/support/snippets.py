"""Reads the code blocks of README and the pages in `docs`, and runs them as a reader would.

A page is one bash session in a folder that looks like a clone. Its bash blocks run in order. A block whose title
is a file name is written to that file. A block titled "Output" must match what the preceding bash block prints;
white space doesn't count, and `...` matches anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support.paths import ROOT

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md")))
OUTPUT = "Output"
LINKED = ("Makefile", "docs", "pyproject.toml", "requirements.lock")
# The time limit of one page in seconds, and the number of pages that run at once.
WITHIN = 150
AT_ONCE = 3
_FENCE = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
# Marks the start of each block's output.
_MARK = "\x1e"


class Snippet(NamedTuple):
    """A block of code. `title` is a file's name, "Output" or empty."""

    page: str
    line: int
    language: str
    title: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def snippets_of(page: Path) -> list[Snippet]:
    """Return the code blocks of a page in order."""
    text, name = page.read_text(), str(page.relative_to(ROOT))
    return [Snippet(name, text.count("\n", 0, found.start()) + 1, *_parts(found)) for found in _FENCE.finditer(text)]


def _parts(found: re.Match[str]) -> tuple[str, str, str]:
    return found[1], found[2] or "", found[3]


def file_named(title: str) -> str:
    """Return the text of the file that a page gives under this name."""
    (code,) = {each.code for page in PAGES for each in snippets_of(page) if each.title == title}
    return code


def python_files() -> dict[str, str]:
    """Return every Python file that the pages give, by name; each name stands for one text."""
    found = [each for page in PAGES for each in snippets_of(page) if each.title.endswith(".py")]
    return {each.title: file_named(each.title) for each in found}


async def failures(
    pages: Sequence[Sequence[Snippet]], folder: Path, environment: Mapping[str, str], venv: Path = Path(sys.prefix)
) -> list[str]:
    """Run each page in its own folder with this `.venv`, a few at a time, and return the failures."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def run(number: int, page: Sequence[Snippet]) -> list[str]:
        async with limit:
            return await _run(page, _clone(folder / str(number), venv), environment)

    found = await asyncio.gather(*(run(number, page) for number, page in enumerate(pages)))
    return [failure for each in found for failure in each]


def _clone(folder: Path, venv: Path) -> Path:
    """Make a folder with the files of a reader's clone."""
    folder.mkdir()
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").symlink_to(venv)
    return folder


async def _run(page: Sequence[Snippet], folder: Path, environment: Mapping[str, str]) -> list[str]:
    script, out, err = folder / ".page.sh", folder / ".out", folder / ".err"
    script.write_text("".join(_lines(page)))
    with out.open("wb") as stdout, err.open("wb") as stderr:
        # A new session, so that everything a page leaves running can be ended.
        running = await asyncio.create_subprocess_exec(
            "bash",
            script,
            cwd=folder,
            env={**environment, "HOME": str(folder)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            status: int | None = await asyncio.wait_for(running.wait(), WITHIN)
        except TimeoutError:
            status = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGTERM)
    printed = out.read_text(errors="replace").split(_MARK)[1:]
    if status != 0:
        where = _blocks(page)[len(printed) - 1]
        why = f"takes more than {WITHIN} s" if status is None else f"ends with {status}"
        return [f"{where} {why}\n{printed[-1]}\n{err.read_text(errors='replace')[-3000:]}"]
    return list(_wrong_outputs(page, printed))


def _blocks(page: Sequence[Snippet]) -> list[Snippet]:
    return [each for each in page if each.language == "bash" and not each.title]


def _lines(page: Sequence[Snippet]) -> Iterator[str]:
    yield "set -eu\n"
    for each in page:
        if each.title and each.title != OUTPUT:
            yield f"cat > {shlex.quote(each.title)} <<'END OF FILE'\n{each.code}END OF FILE\n"
        elif each.language == "bash":
            yield f"printf '{_MARK}'\n{each.code}"


def _wrong_outputs(page: Sequence[Snippet], printed: Sequence[str]) -> Iterator[str]:
    seen = iter(printed)
    output = ""
    for each in page:
        if each.title == OUTPUT:
            pattern = ".*".join(map(re.escape, _compact(each.code).split("...")))
            if re.fullmatch(pattern, _compact(output)) is None:
                yield f"{each} doesn't show what is printed:\n{output}"
        elif each.language == "bash" and not each.title:
            output = next(seen)


def _compact(text: str) -> str:
    return re.sub(r"\s+", "", text)
