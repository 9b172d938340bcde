"""The secrets that a fleet makes at its first start: `secrets.json` under its home, mode 600, which is kept."""

from __future__ import annotations

from pathlib import Path

import msgspec

from aidevos.settings import SettingsError

SECRETS_FILE = "secrets.json"


class Secrets(msgspec.Struct, kw_only=True, frozen=True):
    """Everything generated at first start. `nats` and `mongo` map users to passwords; `rabbitmq` is that of the
    only user there, in containers."""

    nats: dict[str, str]
    mongo: dict[str, str]
    mongo_key: str
    admin_password: str
    rabbitmq: str = ""


def load_secrets(home: Path) -> Secrets:
    """The secrets under this home; raises `FileNotFoundError`, or `SettingsError` for a broken file."""
    try:
        return msgspec.json.decode((home / SECRETS_FILE).read_bytes(), type=Secrets)
    except msgspec.MsgspecError as error:
        raise SettingsError(f"{home / SECRETS_FILE} can't be read: {error}") from None
