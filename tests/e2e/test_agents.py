"""What a fleet offers to coding agents: its documentation as text."""

from __future__ import annotations

import re

import httpx2

from tests.support.paths import ROOT
from tests.support.world import World

PAGES = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}


async def test_the_index_links_to_every_page_of_the_documentation(world: World, http: httpx2.AsyncClient) -> None:
    index = await http.get("/llms.txt")

    links = re.findall(r"^- \[[^\]]+\]\(([^)]+)\): \S", index.text, re.MULTILINE)
    paths = [link.removeprefix(f"{world.servers.public_url}/docs/") for link in links]
    assert index.text.startswith("# AIDevOS Backend\n\n> Self-hosted durable objects")
    assert sorted(paths) == sorted(PAGES)
    for path in ("index.md", "operations/health.md", "operations/alerts/index.md"):
        page = await http.get(f"/docs/{path}")
        assert page.headers["content-type"] == "text/markdown; charset=utf-8"
        assert page.text == (ROOT / "docs" / path).read_text()


async def test_the_full_text_has_every_page_in_reading_order(http: httpx2.AsyncClient) -> None:
    full, index = (await http.get("/llms-full.txt")).text, (await http.get("/llms.txt")).text

    read = re.findall(r"^<!-- \S+/docs/(\S+) -->$", full, re.MULTILINE)
    assert read == re.findall(r"/docs/(\S+\.md)\)", index)
    assert all((ROOT / "docs" / path).read_text() in full for path in read)


async def test_the_texts_can_be_cached(http: httpx2.AsyncClient) -> None:
    for path in ("/llms.txt", "/llms-full.txt", "/docs/objects.md"):
        first = await http.get(path)
        again = await http.get(path, headers={"If-None-Match": first.headers["ETag"]})

        assert first.headers["Cache-Control"] == "public, max-age=300"
        assert (first.status_code, again.status_code, again.content) == (200, 304, b"")


async def test_only_pages_of_the_documentation_are_shown(http: httpx2.AsyncClient) -> None:
    for path in ("session.sh", "none.md", "operations/none.md", "operations/alerts/%2e%2e/index.md", "..%5cREADME.md"):
        assert (await http.get(f"/docs/{path}")).status_code == 404, path
