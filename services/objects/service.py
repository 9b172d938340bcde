"""The objects service, which hosts the example objects."""

from __future__ import annotations

from aidevos import Service

from .account import Account
from .chat_room import ChatRoom
from .counter import Counter

service = Service("objects", types=(Counter, Account, ChatRoom))
