"""The secrets and the signatures of webhooks, by Standard Webhooks.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook

SECRET_PREFIX = "whsec_"  # noqa: S105
SECRET_BYTES = 32


def new_secret() -> str:
    """Return a new signing secret in the form that receivers get."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def sign_headers(id: str, at: float, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """Return the headers of a message that is sent at this time, in seconds since the epoch.

    It is signed with each secret, so that receivers can change from one to the next at their own pace. `id` is the
    same for every attempt.
    """
    moment = datetime.fromtimestamp(int(at), UTC)
    signatures = [Webhook(secret).sign(id, moment, body.decode()) for secret in secrets]
    return {"webhook-id": id, "webhook-timestamp": str(int(at)), "webhook-signature": " ".join(signatures)}
