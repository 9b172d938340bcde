"""Mail into a folder, for those who have no mail server yet: one RFC 5322 file for each."""

from __future__ import annotations

import asyncio
from email.message import EmailMessage
from pathlib import Path

from aidevos.contracts.errors import Failure
from aidevos.security.keys import write_secret

SUFFIX = ".eml"
MAX_FILES = 1000


class FolderMailer:
    """Files of mode 600, each written whole or not at all. Past the bound the oldest go."""

    def __init__(self, folder: Path, limit: int = MAX_FILES) -> None:
        self._folder = folder
        self._limit = limit

    async def send(self, id: str, message: EmailMessage) -> None:
        try:
            await asyncio.to_thread(self._write, id, message.as_bytes())
        except OSError as error:
            raise Failure("unavailable", f"the outbox folder took no mail: {error.strerror}") from None

    def _write(self, id: str, content: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_secret(self._folder / f"{id}{SUFFIX}", content)
        # The names are IDs, which are ordered by time.
        for old in sorted(self._folder.glob(f"*{SUFFIX}"))[: -self._limit]:
            old.unlink(missing_ok=True)
