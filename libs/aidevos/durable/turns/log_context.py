"""The fields of log lines besides their messages: the request, the type and the object of the running turn."""

from __future__ import annotations

from aidevos.durable.objects.running import current_turn
from aidevos.durable.turns.turn import Turn
from aidevos.observability import request_ids


def describe_turn() -> dict[str, str]:
    """Return the fields of lines that the running turn, or work that it has started, logs."""
    turn = current_turn.get(None)
    if not isinstance(turn, Turn):
        return {}
    id = turn.request.request_id[: request_ids.LIMIT]
    found = turn.activation.log_fields | {"method": turn.request.method.name}
    return {"request_id": id} | found if id else found
