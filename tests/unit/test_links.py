"""Links in the repository's texts lead to existing files and headings.

The site's builder also checks links within `docs/`, but only those between pages.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from markdown import Markdown

from tests.support.paths import ROOT

TEXTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


@cache
def anchors(file: Path) -> set[str]:
    """Return the IDs of the headings in a text, as the site's builder makes them."""
    converter = Markdown(extensions=["toc", "pymdownx.superfences"])
    return set(re.findall(r'<h\d id="([^"]+)"', converter.convert(file.read_text())))


def broken(file: Path) -> list[str]:
    """Return the broken links in a text, except those to other hosts."""
    found = []
    for link in LINK.findall(without_code(file.read_text())):
        path, _, anchor = link.partition("#")
        target = file.parent / path if path else file
        if "://" not in link and (not target.exists() or (anchor and anchor not in anchors(target))):
            found.append(link)
    return found


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: file.name)
def test_every_link_leads_to_a_file_and_a_heading(file: Path) -> None:
    assert broken(file) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    text = tmp_path / "text.md"
    text.write_text(
        "# A head\n\n[a](#a-head) [b](#b-head) [c](no.md) [d](text.md#a-head) `[e](no.md)` [f](https://f.org)\n"
    )

    assert broken(text) == ["#b-head", "no.md"]


def test_the_navigation_of_the_site_has_every_page_and_no_other() -> None:
    sections: list[dict[str, Any]] = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    listed = {name for section in sections for names in section.values() for name in names}

    assert {str(file.relative_to(ROOT / "docs")) for file in ROOT.glob("docs/**/*.md")} == listed


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: file.name)
def test_every_path_that_a_text_names_exists(file: Path) -> None:
    named = re.findall(r"`((?:libs|services|deploy|tools|docs|tests)/[^`\s]*)`", file.read_text())

    assert [path for path in named if not (ROOT / path).exists()] == []
