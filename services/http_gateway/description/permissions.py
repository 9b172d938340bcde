"""`docs/permissions.md`: who may call each operation, from the rows.

`python -m services.http_gateway.description.permissions > docs/permissions.md` writes it anew.
"""

from __future__ import annotations

from ..endpoints.operation import Operation
from ..endpoints.routers import ROUTERS

HEAD = """\
# Who may call what

Each operation of the HTTP API, and who may call it. This page is made of the gateway's own table of operations.

| request | callers | rule |
| --- | --- | --- |
"""


def page() -> str:
    """Return the page."""
    rows = [row for router in ROUTERS for row in router.operations]
    rows.sort(key=lambda row: row.path)
    return HEAD + "".join(map(_line, rows))


def _line(row: Operation) -> str:
    callers = row.access.value if row.access is not None else ""
    return f"| `{row.method} {row.path}` | {callers} | {row.needs} |\n"


if __name__ == "__main__":
    print(page(), end="")
