"""A chat room, whose page shows new messages from the live stream at `/events`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from aidevos import BaseDurableObject, Event, command, permission, query
from aidevos.contracts.times import rfc3339_of

RECENT = 50

Text = Annotated[str, Meta(min_length=1, max_length=1000)]


class Message(msgspec.Struct):
    """A message. `number` counts from 1 in each room, `author` is a user's ID, and `at` is RFC 3339 in UTC."""

    number: int
    author: str
    text: str
    at: str


class ChatRoomState(msgspec.Struct):
    count: int = 0
    recent: list[Message] = []


class Posted(Event):
    message: Message


class ChatRoom(BaseDurableObject[ChatRoomState], type="chat_room", management="raw"):
    """A room for short messages. It keeps the last 50."""

    @command(allow=permission("chat_room:write"))
    async def post(self, text: Text) -> Message:
        """Post a message to everybody in the room."""
        state = self.state
        state.count += 1
        message = Message(state.count, self.caller.subject, text, rfc3339_of(self.now))
        state.recent = [*state.recent, message][-RECENT:]
        self.emit(Posted(message))
        return message

    @query(allow=permission("chat_room:read"))
    async def recent(self) -> list[Message]:
        """Return the last messages, oldest first."""
        return self.state.recent
