"""The composition root of the objects service: the examples, hosted."""

from __future__ import annotations

from typing import Any

from aidevos import BaseDurableObject
from services.objects.account import Account
from services.objects.chat_room import ChatRoom
from services.objects.counter import Counter

TYPES: tuple[type[BaseDurableObject[Any]], ...] = (Counter, Account, ChatRoom)
