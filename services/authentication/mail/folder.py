"""Mail that is written into a folder if no mail server is configured: one RFC 5322 file per mail."""

from __future__ import annotations

import asyncio
from email.message import EmailMessage
from pathlib import Path

from aidevos.contracts.errors import Failure
from aidevos.security.secret_files import write_secret

SUFFIX = ".eml"
MAX_FILES = 1000


class FolderMailer:
    """A mailer that writes files of mode 600, each completely or not at all.

    The folder keeps the newest `limit` files.
    """

    def __init__(self, folder: Path, limit: int = MAX_FILES) -> None:
        self._folder = folder
        self._limit = limit

    async def send(self, id: str, message: EmailMessage) -> None:
        """Write a mail under its time-ordered ID, and remove the oldest files. Raises `unavailable`."""
        try:
            await asyncio.to_thread(self._write, id, message.as_bytes())
        except OSError as error:
            raise Failure(
                "unavailable", f"the mail can't be written into the outbox folder: {error.strerror}"
            ) from None

    def _write(self, id: str, content: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_secret(self._folder / f"{id}{SUFFIX}", content)
        # The file names are time-ordered IDs.
        for old in sorted(self._folder.glob(f"*{SUFFIX}"))[: -self._limit]:
            old.unlink(missing_ok=True)
