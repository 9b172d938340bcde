"""The composition root of the objects service: the examples, hosted."""

from __future__ import annotations

from typing import Any

from aidevos import BaseDurableObject

from .account import Account
from .chat_room import ChatRoom
from .counter import Counter

TYPES: tuple[type[BaseDurableObject[Any]], ...] = (Counter, Account, ChatRoom)
