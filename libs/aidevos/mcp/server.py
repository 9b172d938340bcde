"""The server of the tools, by the Model Context Protocol.

A tool that fails tells the agent why: its result is an error with the problem document. This module alone imports the
official library, which takes a second to load and dozens of megabytes.
"""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version
from typing import Any

import msgspec
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)
from starlette.types import Receive, Scope, Send

from aidevos.client.api import HttpApi
from aidevos.contracts.errors import Failure
from aidevos.mcp import tools

INSTRUCTIONS = """\
These tools use a fleet of durable objects: small stateful programs, each with a type and an ID, such as \
`counter:clicks`. Begin with `list_types` and `describe_type`. {url}/llms.txt lists the pages of the documentation."""
Context = ServerRequestContext[Any, Any]
# The library tells of each request that it serves.
logging.getLogger("mcp").setLevel(logging.WARNING)


def make_server(api: HttpApi, url: str) -> Server[Any]:
    """Return a server whose tools use this API; agents find the documentation at `url`."""

    async def list_tools(context: Context, parameters: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[_describe(tool) for tool in tools.TOOLS.values()])

    async def call_tool(context: Context, parameters: CallToolRequestParams) -> CallToolResult:
        if parameters.name not in tools.TOOLS:
            raise MCPError(INVALID_PARAMS, "there is no such tool")
        try:
            result = await tools.use(api, parameters.name, parameters.arguments or {})
        except Failure as failure:
            return _show(failure.encode(), is_error=True)
        return _show(msgspec.json.encode(result))

    return Server(
        "aidevos",
        version=version("aidevos"),
        instructions=INSTRUCTIONS.format(url=url),
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def serve_stdio(api: HttpApi) -> None:
    """Serve the tools over standard input and output until the input ends."""
    server = make_server(api, api.url)
    async with stdio_server() as (received, sent):
        await server.run(received, sent, server.create_initialization_options())


async def serve_request(api: HttpApi, url: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one HTTP request, which belongs to no session, in JSON."""
    # The caller has bounded the body.
    manager = StreamableHTTPSessionManager(
        make_server(api, url), json_response=True, stateless=True, max_request_body_size=sys.maxsize
    )
    async with manager.run():
        await manager.handle_request(scope, receive, send)


def _describe(tool: tools.Tool) -> Tool:
    hints = ToolAnnotations(
        read_only_hint=tool.reads, destructive_hint=not tool.reads, idempotent_hint=tool.reads, open_world_hint=False
    )
    return Tool(name=tool.name, description=tool.about, input_schema=tool.schema(), annotations=hints)


def _show(content: bytes, *, is_error: bool = False) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=content.decode())], is_error=is_error)
