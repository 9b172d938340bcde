"""Make `documents.json.gz`: documents of every type that a fleet of an older version has written.

It was made by the code of version 0.1.0 at the commit 254456fe, of which no tag exists. To make it again, in a checkout
of that commit: `make up`, and run this script with that fleet's AIDEVOS_HOME. The script uses the HTTP API alone.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pymongo
from bson.json_util import CANONICAL_JSON_OPTIONS, dumps

PASSWORD = "wheelbarrow at noon"
FILE = Path(__file__).with_name("documents.json.gz")


def fill(http: httpx2.Client, admin: dict[str, str]) -> None:
    """Make objects of as many types as the HTTP API reaches."""
    person = {"username": "ada", "email": "ada@example.org", "password": PASSWORD}
    _ask(http.post, "/auth/register", json=person)
    token = _ask(http.post, "/auth/login", json={"username": "ada", "password": PASSWORD})["access_token"]
    ada = {"Authorization": f"Bearer {token}"}
    _ask(http.post, "/auth/password/reset", json={"email": "ada@example.org"})
    _ask(http.post, "/roles", json={"name": "clerk", "permissions": ["counter:read"]}, headers=admin)
    _ask(http.post, "/api-keys", json={"name": "k", "scopes": ["*"]}, headers=ada)
    _ask(http.post, "/webhooks", json={"url": "http://127.0.0.1:9/x", "events": ["item.created"]}, headers=ada)
    _ask(http.put, "/rate-limits", json={"policies": {"slow": {"rate": 1000, "applies_to": ["data"]}}}, headers=admin)
    route = {"method": "GET", "path": "/counted", "object_type": "counter", "object_id": "clicks"}
    _ask(http.post, "/routes", json=route | {"object_method": "value", "permission": "counter:read"}, headers=admin)
    config = {"history": True, "unique": ["isbn"], "indexes": [["isbn"]]}
    _ask(http.put, "/data/collections/books", json=config, headers=ada)
    for number in range(3):
        _ask(http.post, "/data/collections/books", json={"id": f"b{number}", "data": {"isbn": number}}, headers=ada)
    _ask(http.put, "/data/collections/books/b1", json={"data": {"isbn": 7}}, headers=ada)
    project = _ask(http.post, "/projects", json={"name": "p"}, headers=ada)["id"]
    _ask(http.post, f"/projects/{project}/tasks", json={"kind": "report"}, headers=ada)
    for type, method, args in (
        ("counter", "increment", {"by": 3}),
        ("account", "deposit", {"amount": 100}),
        ("chat_room", "post", {"text": "hello"}),
    ):
        call = {"method": method, "args": args}
        keyed = admin | {"Idempotency-Key": f"{type}-1"}
        _ask(http.post, f"/durable-objects/{type}:clicks/request", json=call, headers=keyed)
    _ask(http.post, "/durable-objects", json={"type": "counter", "name": "gone"}, headers=admin)
    _ask(http.delete, "/durable-objects/counter:gone", headers=admin)


def _ask(verb: Callable[..., httpx2.Response], path: str, **options: Any) -> Any:
    answer = verb(path, **options)
    print(path, answer.status_code, answer.text[:200] if answer.status_code >= 400 else "", file=sys.stderr)
    return answer.json() if answer.content and answer.status_code < 400 else None


def main() -> None:
    home = Path(os.environ["AIDEVOS_HOME"])
    fleet = json.loads((home / "fleet.json").read_text())
    with httpx2.Client(base_url=fleet["gateway_url"], timeout=30) as http:
        known = {"username": fleet["admin_username"], "password": fleet["admin_password"]}
        admin = _ask(http.post, "/auth/login", json=known)["access_token"]
        fill(http, {"Authorization": f"Bearer {admin}"})
    subprocess.run([sys.executable, "-m", "aidevos.cli.main", "token", "--role", "admin"], check=True, stdout=2)
    time.sleep(5)  # Events and tells reach what they change.
    with pymongo.MongoClient[dict[str, Any]](fleet["mongo_url"]) as client:
        database = client[fleet["mongo_database"]]
        names = sorted(name for name in database.list_collection_names() if name.startswith(("obj_", "replies_")))
        documents = {name: list(database[name].find(sort=[("_id", 1)])) for name in names}
    found = {name: each for name, each in documents.items() if each}
    FILE.write_bytes(gzip.compress(dumps(found, json_options=CANONICAL_JSON_OPTIONS).encode(), mtime=0))
    print({name: len(each) for name, each in found.items()}, file=sys.stderr)


if __name__ == "__main__":
    main()
