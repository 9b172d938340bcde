"""What a fleet offers to coding agents: its documentation as text, and tools by the Model Context Protocol."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from aidevos.mcp.tools import TOOLS
from tests.support.http import http_client
from tests.support.paths import ROOT
from tests.support.people import Person, made
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


@asynccontextmanager
async def over_http(world: World, authorization: str, mode: str = "auto") -> AsyncIterator[Client]:
    async with (
        http_client(headers={"Authorization": authorization}, timeout=40) as http,
        Client(streamable_http_client(f"{world.url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


@asynccontextmanager
async def over_stdio(world: World, authorization: str) -> AsyncIterator[Client]:
    variables = {"AIDEVOS_URL": world.url, "AIDEVOS_TOKEN": authorization.removeprefix("Bearer ")}
    command = StdioServerParameters(command=sys.executable, args=["-m", "aidevos.cli.main", "mcp"], env=variables)
    async with Client(command) as client:
        yield client


def result_of(answer: Any) -> Any:
    """Return the result of a tool, or the problem if it has failed."""
    (content,) = answer.content
    return json.loads(content.text)


async def send(http: httpx2.AsyncClient, authorization: str | None = None, **options: Any) -> httpx2.Response:
    """Send a message to `/mcp`, which is by default a valid one."""
    options = options if {"content", "json"} & options.keys() else options | {"json": LIST_TOOLS}
    headers = {**({"Authorization": authorization} if authorization else {}), **options.pop("headers", {})}
    return await http.post("/mcp", headers=headers, **options)


LIST_TOOLS = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
WAYS = {
    "http": over_http,
    # Clients of protocol versions before that of July 2026.
    "older clients": lambda world, authorization: over_http(world, authorization, mode="legacy"),
    "stdio": over_stdio,
}


@pytest.mark.parametrize("way", WAYS)
async def test_an_agent_finds_its_way_to_an_objects_methods(world: World, way: str, new_id: str) -> None:
    id = f"counter:{new_id}"
    async with WAYS[way](world, world.admin) as agent:
        listed = (await agent.list_tools()).tools
        types = result_of(await agent.call_tool("list_types"))
        described = result_of(await agent.call_tool("describe_type", {"type": "counter"}))
        by_two = {"object_id": id, "method": "increment", "arguments": {"by": 2}}
        changed = await agent.call_tool("call_command", by_two)
        read = await agent.call_tool("call_query", {"object_id": id, "method": "value"})
        shown = result_of(await agent.call_tool("read_object", {"object_id": id}))
        missing = await agent.call_tool("read_item", {"collection": "none", "item_id": "none"})

    assert {tool.name: tool.annotations.read_only_hint for tool in listed if tool.annotations} == {
        name: tool.reads for name, tool in TOOLS.items()
    }
    assert "counter" in [each["type"] for each in types]
    assert "Command" in described["methods"]["increment"]["about"]
    assert described["methods"]["increment"]["arguments"]["$ref"].removeprefix("#/$defs/") in described["$defs"]
    assert (result_of(changed), result_of(read), shown["state"]) == (2, 2, {"value": 2})
    assert (missing.is_error, result_of(missing)["code"]) == (True, "not-found")


async def test_a_tool_that_only_reads_calls_no_command(world: World, new_id: str) -> None:
    increment = {"object_id": f"counter:{new_id}", "method": "increment"}
    async with over_http(world, world.admin) as agent:
        refused = await agent.call_tool("call_query", increment)
        value = await agent.call_tool("call_query", increment | {"method": "value"})

    assert (refused.is_error, result_of(refused)["code"]) == (True, "query-only")
    assert result_of(value) == 0


async def test_tools_act_with_the_rights_of_their_caller(
    world: World, http: httpx2.AsyncClient, person: Callable[[], Awaitable[Person]], new_id: str
) -> None:
    ada, bob = await person(), await person()
    await made(http, f"/data/collections/a{new_id}", ada, id="one", data={"price": 5})
    await made(http, "/projects", ada, name="Engine")
    mine = {"collection": f"a{new_id}", "filter": {"price": {"gte": 5}}}
    answers = []
    for who in (ada, bob):
        async with over_http(world, who.authorization) as agent:
            found = result_of(await agent.call_tool("find_items", mine))
            projects = result_of(await agent.call_tool("list_projects"))["items"]
            tasks = [result_of(await agent.call_tool("list_tasks", {"project_id": each["id"]})) for each in projects]
            call = {"object_id": "counter:c", "method": "value"}
            answers.append((found, tasks, result_of(await agent.call_tool("call_query", call))["code"]))

    (items, *hers), (refused, *his) = answers
    assert [item["data"] for item in items["items"]] == [{"price": 5}]
    assert hers == [[{"items": [], "next_cursor": None}], "forbidden"]
    assert (refused["code"], his) == ("not-found", [[], "forbidden"])


async def test_a_repeated_command_of_an_agent_takes_effect_once(world: World, new_id: str) -> None:
    call = {"object_id": f"counter:{new_id}", "method": "increment", "request_id": "first"}
    async with over_http(world, world.admin) as agent:
        results = [result_of(await agent.call_tool("call_command", call)) for _ in range(2)]

    assert results == [1, 1]


@pytest.mark.parametrize("way", ["http", "stdio"])
async def test_an_agent_waits_for_events_and_goes_on_where_it_was(world: World, way: str, new_id: str) -> None:
    wanted = {"type": "chat_room", "id": new_id, "limit": 1, "seconds": 20}
    post = {"object_id": f"chat_room:{new_id}", "method": "post"}
    async with WAYS[way](world, world.admin) as agent:
        nothing = result_of(await agent.call_tool("tail_events", wanted | {"seconds": 1}))
        await agent.call_tool("call_command", post | {"arguments": {"text": "Hello"}})
        tail = wanted | {"after": nothing["next"]}
        first = result_of(await agent.call_tool("tail_events", tail))
        waiting = asyncio.create_task(agent.call_tool("tail_events", wanted | {"after": first["next"]}))
        await agent.call_tool("call_command", post | {"arguments": {"text": "Bye"}})
        second = result_of(await waiting)

    assert nothing["events"] == []
    assert [each["events"][0]["data"]["message"]["text"] for each in (first, second)] == ["Hello", "Bye"]


async def test_bad_arguments_are_the_agents_mistake(world: World) -> None:
    wrong = [
        ("describe_type", {}, "type"),
        ("describe_type", {"type": "Counter!"}, "type"),
        ("describe_type", {"type": "no_such_type"}, "no such type"),
        ("call_query", {"object_id": "counter", "method": "value"}, "object_id"),
        ("read_item", {"collection": "books", "item_id": ".."}, "item_id"),
        ("tail_events", {"seconds": 1e9}, "seconds"),
        ("list_types", {"limit": 1}, "limit"),
    ]
    async with over_http(world, world.admin) as agent:
        for tool, arguments, named in wrong:
            refused = await agent.call_tool(tool, arguments)
            assert refused.is_error, tool
            assert named in result_of(refused)["detail"], tool
        with pytest.raises(MCPError, match="no such tool"):
            await agent.call_tool("drop_database", {})


async def test_messages_need_a_credential(world: World, http: httpx2.AsyncClient) -> None:
    for authorization in (None, "Bearer wrong"):
        refused = await send(http, authorization)

        assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
        assert refused.headers["WWW-Authenticate"] == "Bearer"


async def test_an_api_key_is_a_credential_for_an_agent(
    http: httpx2.AsyncClient, person: Callable[[], Awaitable[Person]]
) -> None:
    key = (await made(http, "/api-keys", await person(), name="agent", scopes=["data:read"]))["key"]
    call = {"name": "list_projects", "arguments": {}}
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": call}

    listed = await send(http, headers={"X-Api-Key": key})
    refused = await send(http, headers={"X-Api-Key": key}, json=message)

    assert {tool["name"] for tool in listed.json()["result"]["tools"]} == TOOLS.keys()
    assert json.loads(refused.json()["result"]["content"][0]["text"])["code"] == "forbidden"


async def test_pages_of_other_origins_may_not_use_the_tools(world: World, http: httpx2.AsyncClient) -> None:
    own = await send(http, world.admin, headers={"Origin": world.servers.public_url})
    # After DNS rebinding, the browser takes the gateway for a host of the page.
    rebound = {"Origin": "http://evil.example:8080", "Host": "evil.example:8080"}
    foreign = [await send(http, world.admin, headers=each) for each in (rebound, {"Origin": "null"})]

    assert own.status_code == 200
    assert [(each.status_code, each.json()["field"]) for each in foreign] == [(403, "Origin")] * 2


async def test_malformed_messages_get_problem_documents(world: World, http: httpx2.AsyncClient) -> None:
    wrong: list[tuple[int, dict[str, Any]]] = [
        (400, {"content": b"{"}),
        (422, {"json": [LIST_TOOLS]}),
        (422, {"json": LIST_TOOLS | {"jsonrpc": "1.0"}}),
        (422, {"json": {"jsonrpc": "2.0", "id": 1}}),
        (415, {"content": b"{}", "headers": {"Content-Type": "text/plain"}}),
        (413, {"content": b" " * 9_000_000}),
    ]
    for status, options in wrong:
        refused = await send(http, world.admin, **options)

        assert refused.status_code == status, options
        assert refused.headers["Content-Type"] == "application/problem+json"


async def test_messages_of_the_protocol_get_its_answers(world: World, http: httpx2.AsyncClient) -> None:
    unknown = await send(http, world.admin, json=LIST_TOOLS | {"method": "tools/none"})
    notified = await send(http, world.admin, json={"jsonrpc": "2.0", "method": "notifications/initialized"})
    newer = await send(http, world.admin, headers={"Mcp-Protocol-Version": "2999-01-01"})

    assert unknown.json()["error"]["code"] == -32601
    assert (notified.status_code, notified.content) == (202, b"")
    assert (newer.status_code, newer.json()["jsonrpc"]) == (400, "2.0")


async def test_the_path_of_the_tools_takes_posts_alone_and_redirects_nobody(
    world: World, http: httpx2.AsyncClient
) -> None:
    for method in ("GET", "DELETE"):
        refused = await http.request(method, "/mcp", headers={"Authorization": world.admin})

        assert (refused.status_code, refused.headers["Allow"]) == (405, "POST")
    assert (await http.post("/mcp/", json=LIST_TOOLS)).status_code == 404
