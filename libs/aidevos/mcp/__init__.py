"""The tools with which coding agents use a fleet, and their server by the Model Context Protocol (MCP)."""
