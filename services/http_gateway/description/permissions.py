"""`docs/permissions.md`: who may call each operation, from the rows.

`python -m services.http_gateway.description.permissions > docs/permissions.md` writes it anew.
"""

from __future__ import annotations

from ..endpoints.routers import ROUTERS

HEAD = """\
# Who may call what

Each operation of the HTTP API, and who may call it. This page is made of the gateway's own table of operations.

| request | callers | rule |
| --- | --- | --- |
"""


def page() -> str:
    """Return the page."""
    rows = sorted((row for router in ROUTERS for row in router.operations), key=lambda row: (row.path, row.method))
    lines = [f"| `{row.method} {row.path}` | {row.access and row.access.value} | {row.needs} |\n" for row in rows]
    return HEAD + "".join(lines)


if __name__ == "__main__":
    print(page(), end="")
