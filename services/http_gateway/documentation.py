"""The documentation for language models: an index, all pages as one text, and each page as Markdown.

The index has the format of llmstxt.org. The pages lie in `docs`, beside the folder of the services, in a checkout and
in an installed package. They are read when one is first asked for. The site's configuration gives their order.
"""

from __future__ import annotations

import re
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from .static_files import StaticFile

ROOT = Path(__file__).parents[2]
SITE, FOLDER = "zensical.toml", "docs"
AGE = b"public, max-age=300"
INTRODUCTION = """\
All pages in one file: [llms-full.txt]({url}/llms-full.txt). The API of this fleet, with its own types of objects:
[OpenAPI]({url}/openapi.json), [AsyncAPI]({url}/asyncapi.json). Agents call it through `POST {url}/mcp`.
"""
_title = re.compile(r"^# (.+)$", re.MULTILINE).search
# The first sentence of the first paragraph that is text.
_sentence = re.compile(r"\n\n(?=[A-Za-z`*\[])(?!```)(.{30,}?)(?:[.:](?=\s)|\n\n|\Z)", re.DOTALL).search
_link = re.compile(r"\[([^\]]*)\]\([^)]*\)")


class Page(NamedTuple):
    """A page; `path` is its path below `/docs`."""

    path: str
    title: str
    about: str
    text: str


class Documentation:
    """The texts, at the URL where users find the gateway."""

    def __init__(self, url: str) -> None:
        self._url = url

    @cached_property
    def index(self) -> StaticFile:
        """The answer to `/llms.txt`."""
        parts = [f"# {self._site['site_name']}\n\n> {self._site['site_description']}\n\n"]
        parts.append(INTRODUCTION.format(url=self._url))
        for section, pages in self._sections.items():
            parts.append(f"\n## {section}\n\n")
            parts += [f"- [{page.title}]({self._url}/docs/{page.path}): {page.about}\n" for page in pages]
        return StaticFile("llms.txt", "".join(parts).encode(), AGE)

    @cached_property
    def full(self) -> StaticFile:
        """The answer to `/llms-full.txt`: all pages in reading order."""
        pages = (page for pages in self._sections.values() for page in pages)
        text = "\n".join(f"<!-- {self._url}/docs/{page.path} -->\n\n{page.text}" for page in pages)
        return StaticFile("llms-full.txt", text.encode(), AGE)

    def page(self, path: str) -> StaticFile | None:
        """Return a page as Markdown, or None if there is none at this path below `/docs`."""
        return self._pages.get(path)

    @cached_property
    def _pages(self) -> dict[str, StaticFile]:
        return {
            page.path: StaticFile(page.path, page.text.encode(), AGE)
            for pages in self._sections.values()
            for page in pages
        }

    @cached_property
    def _site(self) -> dict[str, Any]:
        site: dict[str, Any] = tomllib.loads((ROOT / SITE).read_text())["project"]
        return site

    @cached_property
    def _sections(self) -> dict[str, list[Page]]:
        return {name: [_read(path) for path in paths] for each in self._site["nav"] for name, paths in each.items()}


def _read(path: str) -> Page:
    text = (ROOT / FOLDER / path).read_text()
    title, sentence = _title(text), _sentence(text)
    about = " ".join(_link.sub(r"\1", sentence[1]).split()) if sentence else ""
    return Page(path, title[1] if title else path, f"{about}.", text)
