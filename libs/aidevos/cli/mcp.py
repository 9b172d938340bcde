"""`aidevos mcp`: the fleet in use, as tools for a coding agent."""

from __future__ import annotations

from aidevos.cli.remote import call


def mcp() -> None:
    """Serve the fleet to a coding agent, over standard input and output.

    The agent starts this command, and speaks the Model Context Protocol with it. What the credential in use may do, the
    agent may do.
    """
    from aidevos.mcp.server import serve_stdio

    call(serve_stdio)
