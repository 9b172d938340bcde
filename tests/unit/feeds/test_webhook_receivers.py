"""The webhook receivers in the documentation accept what the sender signs, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from aidevos.feeds.webhook_signatures import new_secret, sign_headers
from tests.support.snippets import file_named

BODY = json.dumps({"type": "item.created", "data": {"id": "Grüße"}}).encode()
Verify = Callable[[str, dict[str, str], bytes], Any]


def in_python(secret: str, sent: dict[str, str], body: bytes) -> Any:
    names: dict[str, Any] = {}
    exec(file_named("verify.py"), names)
    return names["received"](secret, sent, body)


def in_javascript(secret: str, sent: dict[str, str], body: bytes) -> Any:
    call = f"received({json.dumps(secret)}, {json.dumps(sent)}, {json.dumps(body.decode())})"
    script = f"{file_named('verify.mjs')}\nconsole.log(JSON.stringify({call}))"
    done = subprocess.run(["node", "--input-type=module", "-e", script], capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise ValueError(done.stderr)
    return json.loads(done.stdout)


NODE = pytest.mark.skipif(shutil.which("node") is None, reason="there is no node on the PATH")


@pytest.mark.parametrize("verify", [in_python, pytest.param(in_javascript, marks=NODE)])
def test_a_documented_receiver_takes_what_is_sent_and_nothing_else(verify: Verify) -> None:
    secret, former = new_secret(), new_secret()
    now = time.time()
    sent = sign_headers("d1", now, BODY, [secret, former])

    assert verify(secret, sent, BODY) == verify(former, sent, BODY) == json.loads(BODY)
    refused = [
        (new_secret(), sent, BODY),
        (secret, sent, BODY + b" "),
        (secret, sent | {"webhook-id": "d2"}, BODY),
        (secret, sign_headers("d1", now - 600, BODY, [secret]), BODY),
        (secret, sign_headers("d1", now + 600, BODY, [secret]), BODY),
    ]
    for case in refused:
        with pytest.raises(Exception, match=r"."):
            verify(*case)
