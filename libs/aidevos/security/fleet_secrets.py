"""The secrets that a fleet generates at its first start and keeps: `secrets.json` under its home, mode 600."""

from __future__ import annotations

from pathlib import Path

import msgspec

from aidevos.settings import SettingsError

SECRETS_FILE = "secrets.json"


class Secrets(msgspec.Struct, kw_only=True, frozen=True):
    """The generated secrets.

    `nats` and `mongo` map users to passwords. `rabbitmq` is the password of RabbitMQ's only user, in
    containers.
    """

    nats: dict[str, str]
    mongo: dict[str, str]
    mongo_key: str
    admin_password: str
    rabbitmq: str = ""


def load_secrets(home: Path) -> Secrets:
    """Return the secrets under `home`. Raises `FileNotFoundError`, or `SettingsError` for a broken file."""
    try:
        return msgspec.json.decode((home / SECRETS_FILE).read_bytes(), type=Secrets)
    except msgspec.MsgspecError as error:
        raise SettingsError(f"can't read {home / SECRETS_FILE}: {error}") from None
