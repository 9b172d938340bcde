"""The gateway's table of operations."""

from __future__ import annotations

from services.http_gateway.endpoints.operation import Access
from services.http_gateway.endpoints.routers import ROUTERS


def test_every_operation_says_who_may_call_it() -> None:
    rows = [row for router in ROUTERS for row in router.operations]

    assert [row.id for row in rows if row.access in (Access.REQUIRED, Access.OPTIONAL) and not row.needs] == []
    assert len({row.id for row in rows}) == len(rows)
    assert len({(row.method, row.path) for row in rows}) == len(rows)
