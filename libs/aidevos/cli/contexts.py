"""Contexts: the fleets that a user knows, with the credentials of each, in the user's own configuration folder.

Promise: only the user can read the file. It is replaced as a whole, and by one command at a time, so two commands
never spend one refresh token.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from typer import get_app_dir

from aidevos.cli.errors import CommandError

# The context of the fleet under AIDEVOS_HOME, which needs no login.
LOCAL = "local"
FILE, LOCK = "contexts.json", "contexts.lock"


class Context(msgspec.Struct, kw_only=True):
    """A fleet, and a login there or a token. `expires_at` is in seconds since the epoch.

    Without a `refresh_token`, the token can't be renewed.
    """

    url: str
    username: str = ""
    access_token: str = ""
    refresh_token: str = ""
    expires_at: float = 0.0


class Contexts(msgspec.Struct):
    """All contexts by name, and the one in use; empty stands for the fleet on this machine."""

    current: str = ""
    contexts: dict[str, Context] = {}

    def get(self, name: str) -> Context:
        """Return a context. Raises `CommandError` for an unknown name."""
        if name not in self.contexts:
            raise CommandError(f"there is no context {name!r}; `aidevos context list` shows them")
        return self.contexts[name]

    def name_of(self, url: str) -> str:
        """Return the name of a context with this URL, the one in use if it has it, or "" if there is none."""
        names = [self.current, *self.contexts]
        return next((name for name in names if name in self.contexts and self.contexts[name].url == url), "")


def load_contexts() -> Contexts:
    """Return what is stored. Raises `CommandError`."""
    path = _folder() / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Contexts)
    except FileNotFoundError:
        return Contexts()
    except (OSError, msgspec.MsgspecError) as error:
        raise CommandError(f"{path} can't be read: {error}") from None


@contextmanager
def changed_contexts() -> Iterator[Contexts]:
    """Open the contexts to change them; they are stored at the end of the block. Raises `CommandError`."""
    folder = _folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CommandError(f"{folder} can't be used: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        contexts = load_contexts()
        yield contexts
        _write(folder / FILE, msgspec.json.format(msgspec.json.encode(contexts)))
    finally:
        os.close(lock)


def _folder() -> Path:
    return Path(get_app_dir("aidevos"))


def _write(path: Path, content: bytes) -> None:
    """Replace a file atomically; only its owner can read it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise CommandError(f"{path} can't be written: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
