"""The access matrix over HTTP and NATS: every method of every shipped type has a row with its callers."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

import httpx2
import msgspec
import nats
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aidevos import DurableObjectRegistry
from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure
from aidevos.contracts.objects import TypeDescription
from aidevos.security.key_ring import SigningKey
from aidevos.security.tokens import TokenIssuer
from services.api_gateway.service import service as api_gateway
from services.authentication.service import service as authentication
from services.data_storage.service import service as data_storage
from services.events.service import service as events
from services.objects.service import service as objects
from services.projects.service import service as projects
from services.user_management.service import service as user_management
from tests.support.http import blocking_http_client, http_client
from tests.support.world import EntryPoint, HttpEntryPoint, World

SERVICES = (objects, authentication, user_management, data_storage, projects, api_gateway, events)
TYPES = [cls for service in SERVICES for cls in service.types]
MANAGERS = {"manager", "admin"}
KNOWN = {"stranger", "user", "reader", "writer", "manager", "service", "admin"}
# Also open without a credential.
ANYONE = KNOWN | {"nobody"}
SERVICE = {"service"}
MEMBERS = {"user", "admin"}
LETTER = (
    b'{"letter":{"id":"l","kind":"tell","source":"counter:c","subject":"do.counter.c.increment","payload":"",'
    b'"code":"invalid","detail":"d","attempts":1,"at":0}}'
)
MAKING = {"_create", "_replace"}
ROUTE = (
    b'{"route":{"method":"GET","path":"/shop","object_type":"counter","object_id":"c","object_method":"value",'
    b'"permission":"counter:read"}}'
)
# Type and method → a valid payload, and the permitted callers.
ROWS: dict[tuple[str, str], tuple[bytes, set[str]]] = {
    ("counter", "increment"): (b'{"by":1}', {"writer", "admin"}),
    ("counter", "value"): (b"{}", {"reader", "admin"}),
    ("account", "deposit"): (b'{"amount":1}', {"writer", "admin"}),
    ("account", "transfer"): (b'{"to":"bank","amount":1}', {"writer", "admin"}),
    ("account", "close"): (b"{}", {"writer", "admin"}),
    ("account", "balance"): (b"{}", {"reader", "admin"}),
    ("account", "credit"): (b'{"transfer":"t","source":"bank","amount":1}', {"service"}),
    ("account", "settle"): (b'{"transfer":"t"}', {"service"}),
    ("account", "refuse"): (b'{"transfer":"t","reason":"r"}', {"service"}),
    ("account", "forget"): (b'{"transfer":"t"}', {"service"}),
    ("chat_room", "post"): (b'{"text":"hello"}', {"writer", "admin"}),
    ("chat_room", "recent"): (b"{}", {"reader", "admin"}),
    ("auth", "login"): (b'{"username":"somebody else","password":"x"}', ANYONE),
    ("auth", "sign_in"): (b'{"password":"","device":""}', SERVICE),
    ("auth", "verify"): (b'{"challenge":"x"}', ANYONE),
    ("auth", "begin_totp"): (b'{"password":"","username":"u","session":"s"}', SERVICE),
    ("auth", "confirm_totp"): (b'{"otp":"","session":"s"}', SERVICE),
    ("auth", "disable_totp"): (b'{"otp":"","session":"s"}', SERVICE),
    ("auth", "renew_recovery_codes"): (b'{"password":"","session":"s"}', SERVICE),
    ("auth", "has_mfa"): (b"{}", SERVICE),
    ("auth", "reserve"): (b'{"user":"u","password":""}', SERVICE),
    ("auth", "reserve_email"): (b'{"user":"u","primary":"p"}', SERVICE),
    ("auth", "release"): (b'{"user":"u"}', SERVICE),
    ("auth", "change_password"): (b'{"current":"","new":"x","session":"s"}', SERVICE),
    ("auth", "sessions"): (b"{}", SERVICE),
    ("auth", "touch"): (b'{"session":"s","at":0}', SERVICE),
    ("auth", "forget"): (b'{"session":"s"}', SERVICE),
    ("auth", "end_session"): (b'{"session":"s"}', SERVICE),
    ("auth", "check_password"): (b'{"password":"","action":"a","session":"s"}', SERVICE),
    ("auth", "revoke_session"): (b'{"session":"s"}', SERVICE),
    ("auth", "end_sessions"): (b"{}", SERVICE),
    ("auth", "reset_password"): (b'{"user":"u","new":"x"}', SERVICE),
    ("auth", "holder"): (b"{}", SERVICE),
    ("auth", "free_email"): (b'{"user":"u"}', SERVICE),
    ("confirmation", "welcome"): (b'{"email":"a@example.org"}', SERVICE),
    ("confirmation", "recover"): (b'{"email":"a@example.org"}', SERVICE),
    ("confirmation", "verify_email"): (b"{}", KNOWN),
    ("confirmation", "change_email"): (b'{"password":"x","email":"a@example.org"}', KNOWN),
    ("confirmation", "confirm_email"): (b'{"token":"t"}', ANYONE),
    ("confirmation", "reset_password"): (b'{"token":"t","new_password":"x"}', ANYONE),
    ("confirmation", "void_links"): (b"{}", SERVICE),
    ("confirmation", "forget"): (b"{}", SERVICE),
    ("recovery", "request_reset"): (b'{"email":"a@example.org"}', ANYONE),
    ("recovery", "look_up"): (b'{"email":"a@example.org"}', SERVICE),
    ("mail", "send"): (b'{"letter":{"kind":"verify","to":"a@example.org","user":"u","until":0}}', SERVICE),
    ("session", "open"): (b'{"user":"u","account":"a","roles":[],"at":0}', SERVICE),
    ("session", "refresh"): (b'{"refresh_token":""}', ANYONE),
    ("session", "end"): (b"{}", KNOWN),
    ("session", "end_all"): (b"{}", KNOWN),
    ("session", "change_password"): (b'{"current_password":"x","new_password":"y"}', KNOWN),
    ("session", "begin_totp"): (b'{"password":"x"}', KNOWN),
    ("session", "confirm_totp"): (b'{"otp":"000000"}', KNOWN),
    ("session", "disable_totp"): (b'{"password":"x"}', KNOWN),
    ("session", "renew_recovery_codes"): (b'{"password":"x"}', KNOWN),
    ("session", "is_open"): (b"{}", SERVICE),
    ("session", "sessions"): (b"{}", KNOWN),
    ("session", "me"): (b"{}", KNOWN),
    ("access_token", "register"): (b'{"subject":"s","roles":[],"permissions":[],"expires_at":0}', SERVICE),
    ("access_token", "resolve"): (b"{}", SERVICE),
    ("access_token", "revoke"): (b"{}", {"admin", "service"}),
    ("access_token", "expire"): (b"{}", SERVICE),
    ("audit", "record"): (
        b'{"at":0,"actor":"a","action":"a","target":"t","outcome":"success","reason":"","address":"","session":""}',
        SERVICE,
    ),
    ("audit", "expire"): (b"{}", SERVICE),
    ("dead_letter", "bury"): (LETTER, SERVICE),
    ("dead_letter", "read"): (b"{}", {"admin"}),
    ("dead_letter", "replay"): (b"{}", {"admin"}),
    ("dead_letter", "contents"): (b'{"number":1}', SERVICE),
    ("dead_letter", "settle"): (b'{"number":1}', SERVICE),
    ("replay", "send"): (b'{"number":1}', SERVICE),
    ("dead_letter", "remove"): (b"{}", {"admin"}),
    ("dead_letter", "expire"): (b"{}", SERVICE),
    ("key_holder", "reserve"): (b'{"id":"x"}', SERVICE),
    ("key_holder", "release"): (b'{"id":"x"}', SERVICE),
    ("key_holder", "erase"): (b"{}", SERVICE),
    ("key_holder", "summaries"): (b"{}", SERVICE),
    ("webhook", "create"): (b'{"url":"http://127.0.0.77/","events":["*"]}', {"admin"}),
    ("webhook", "read"): (b"{}", {"admin"}),
    ("webhook", "patch"): (b'{"patch":{}}', {"admin"}),
    ("webhook", "rotate_secret"): (b"{}", {"admin"}),
    ("webhook", "test"): (b"{}", {"admin"}),
    ("webhook", "deliveries"): (b"{}", {"admin"}),
    ("webhook", "remove"): (b"{}", {"admin"}),
    ("webhook", "erase"): (b"{}", SERVICE),
    ("webhook", "sweep"): (b"{}", SERVICE),
    ("webhook", "target"): (b"{}", SERVICE),
    ("webhook", "fail"): (b'{"at":0}', SERVICE),
    ("webhook", "recover"): (b"{}", SERVICE),
    ("webhook", "disable"): (b'{"reason":"r"}', SERVICE),
    ("webhook_holder", "reserve"): (b'{"id":"x"}', SERVICE),
    ("webhook_holder", "release"): (b'{"id":"x"}', SERVICE),
    ("webhook_holder", "erase"): (b"{}", SERVICE),
    ("webhook_holder", "summaries"): (b"{}", SERVICE),
    ("delivery", "begin"): (
        b'{"webhook":"w","owner":"o","subject":"event.counter.c.incremented","event_id":"e","event":"{}"}',
        SERVICE,
    ),
    ("delivery", "read"): (b"{}", {"admin"}),
    ("delivery", "replay"): (b"{}", {"admin"}),
    ("delivery", "erase"): (b"{}", SERVICE),
    ("delivery", "expire"): (b"{}", SERVICE),
    ("quota", "take"): (b'{"wanted":1,"rate":1,"window":1,"burst":1}', SERVICE),
    ("quota", "attempt"): (b'{"kind":"k","limit":1,"window":1}', SERVICE),
    ("rate_limits", "read"): (b"{}", {"service", "admin"}),
    ("rate_limits", "replace"): (b'{"policies":{}}', {"admin"}),
    ("api_key", "create"): (b'{"name":"n","scopes":["*"]}', {"admin"}),
    ("api_key", "vanish"): (b'{"project":"p"}', SERVICE),
    ("api_key", "read"): (b"{}", {"admin"}),
    ("api_key", "patch"): (b'{"patch":{}}', {"admin"}),
    ("api_key", "rotate"): (b"{}", {"admin"}),
    ("api_key", "revoke"): (b"{}", {"admin"}),
    ("api_key", "erase"): (b"{}", SERVICE),
    ("api_key", "sweep"): (b"{}", SERVICE),
    ("api_key", "confirm"): (b'{"key":"k"}', SERVICE),
    ("api_key", "resolve"): (b'{"hashed":"h"}', SERVICE),
    ("api_key", "grant"): (b"{}", SERVICE),
    ("api_key", "used"): (b'{"at":0}', SERVICE),
    ("idempotency_key", "use"): (b'{"request":"r"}', SERVICE),
    ("route", "create"): (ROUTE, {"admin"}),
    ("route", "read"): (b"{}", {"admin"}),
    ("route", "replace"): (ROUTE, {"admin"}),
    ("route", "remove"): (b"{}", {"admin"}),
    ("user", "register"): (b'{"username":"u","email":"u@example.org","password":"x"}', ANYONE),
    ("user", "create"): (b'{"username":"u","email":"u@example.org"}', {"admin"}),
    ("user", "install"): (b'{"username":"","password":"x"}', SERVICE),
    ("user", "holds"): (b'{"account":"a"}', SERVICE),
    ("user", "confirm_email"): (b'{"email":"a@example.org"}', SERVICE),
    ("user", "announce_email"): (b'{"email":"a@example.org","change":"c"}', SERVICE),
    ("user", "take_email"): (b'{"email":"a@example.org","change":"c"}', SERVICE),
    ("user", "show"): (b"{}", SERVICE),
    ("user", "is_erased"): (b"{}", SERVICE),
    ("user", "read"): (b"{}", KNOWN),
    ("user", "replace"): (b"{}", KNOWN),
    ("user", "patch"): (b'{"patch":{}}', KNOWN),
    ("user", "sessions"): (b"{}", KNOWN),
    ("user", "end_session"): (b'{"session":"s"}', KNOWN),
    ("user", "end_sessions"): (b"{}", KNOWN),
    ("user", "erase"): (b'{"password":"x"}', KNOWN),
    ("user", "forget"): (b"{}", SERVICE),
    ("user", "activate"): (b"{}", {"admin"}),
    ("user", "deactivate"): (b"{}", {"admin"}),
    ("user", "lose_role"): (b'{"role":"r"}', SERVICE),
    ("role", "create"): (b'{"permissions":[]}', {"admin"}),
    ("role", "read"): (b"{}", {"admin"}),
    ("role", "show"): (b"{}", SERVICE),
    ("role", "replace"): (b'{"permissions":[]}', {"admin"}),
    ("role", "remove"): (b"{}", {"admin"}),
    ("role", "hold"): (b'{"user":"u","version":1}', SERVICE),
    ("role", "install"): (b"{}", SERVICE),
    ("administrators", "join"): (b'{"user":"u","version":1}', SERVICE),
    ("administrators", "leave"): (b'{"user":"u","version":1}', SERVICE),
    ("collection", "begin"): (b'{"owner":"o"}', SERVICE),
    ("collection", "configure"): (b'{"config":{}}', ANYONE),
    ("collection", "config"): (b"{}", ANYONE),
    ("collection", "delete"): (b"{}", ANYONE),
    ("collection", "vanish"): (b'{"project":"p"}', SERVICE),
    ("collection", "indexed"): (b'{"incarnation":"i","indexes":{}}', SERVICE),
    ("item", "create"): (b'{"collection":"c","id":"i","data":1}', ANYONE),
    ("item", "read"): (b"{}", ANYONE),
    ("item", "replace"): (b'{"data":1}', ANYONE),
    ("item", "patch"): (b'{"patch":1}', ANYONE),
    ("item", "delete"): (b"{}", ANYONE),
    ("item", "restore"): (b'{"version":1}', ANYONE),
    ("item", "history"): (b"{}", ANYONE),
    ("item", "holds"): (b'{"unique":"u"}', SERVICE),
    ("item", "reserve"): (b'{"incarnation":"i","paths":[]}', SERVICE),
    ("item", "rekey"): (b"{}", SERVICE),
    ("item", "vanish"): (b'{"by":"expiry"}', SERVICE),
    ("item_version", "keep"): (b'{"version":{}}', SERVICE),
    ("item_version", "show"): (b'{"life":"l"}', SERVICE),
    ("item_version", "vanish"): (b'{"by":"life","value":"l"}', SERVICE),
    ("unique", "reserve"): (b'{"item":"i","version":1,"attempt":"a"}', SERVICE),
    ("unique", "release"): (b'{"item":"i","version":1}', SERVICE),
    ("unique", "cancel"): (b'{"item":"i","attempt":"a"}', SERVICE),
    ("collection_holder", "reserve"): (b'{"id":"x"}', SERVICE),
    ("collection_holder", "release"): (b'{"id":"x"}', SERVICE),
    ("eraser", "erase"): (b"{}", SERVICE),
    ("indexer", "begin"): (b'{"collection":"c","indexes":{}}', SERVICE),
    ("indexer", "step"): (b'{"round":7}', SERVICE),
    ("project", "create"): (b'{"name":"p"}', MEMBERS),
    ("project", "read"): (b"{}", MEMBERS),
    ("project", "replace"): (b'{"name":"p"}', MEMBERS),
    ("project", "patch"): (b'{"patch":{}}', MEMBERS),
    ("project", "members"): (b"{}", MEMBERS),
    ("project", "set_member"): (b'{"user_id":"u","role":"viewer"}', MEMBERS),
    ("project", "remove_member"): (b'{"user_id":"u"}', MEMBERS),
    ("project", "delete"): (b"{}", MEMBERS),
    ("project", "tasks"): (b"{}", MEMBERS),
    ("project", "webhook_secret"): (b"{}", MEMBERS),
    ("project", "signing_secrets"): (b"{}", SERVICE),
    ("project", "role_of"): (b'{"user_id":"u"}', SERVICE),
    ("project", "verify"): (b'{"user_id":"u"}', SERVICE),
    ("project", "forget"): (b'{"user_id":"u"}', SERVICE),
    ("project", "confirm"): (b'{"type":"task","id":"t"}', SERVICE),
    ("project", "purge"): (b'{"type":"task"}', SERVICE),
    ("task", "create"): (b'{"project":"p","kind":"report"}', MEMBERS),
    ("task", "read"): (b"{}", MEMBERS),
    ("task", "patch"): (b'{"patch":{}}', MEMBERS),
    ("task", "cancel"): (b"{}", MEMBERS),
    ("task", "retry"): (b"{}", MEMBERS),
    ("task", "delete"): (b"{}", MEMBERS),
    ("task", "start"): (b'{"worker":"w"}', SERVICE),
    ("task", "beat"): (b'{"run":"r"}', SERVICE),
    ("task", "finish"): (b'{"run":"r"}', SERVICE),
    ("task", "give_back"): (b'{"run":"r"}', SERVICE),
    ("task", "orders"): (b'{"run":"r"}', SERVICE),
    ("task", "message"): (b'{"run":"r"}', SERVICE),
    ("task", "vanish"): (b'{"project":"p"}', SERVICE),
    ("project_holder", "reserve"): (b'{"id":"x"}', SERVICE),
    ("project_holder", "release"): (b'{"id":"x"}', SERVICE),
    ("departure", "begin"): (b"{}", SERVICE),
} | {
    (type.object_type, method): (payload, set() if type.management == "read_only" and method in MAKING else MANAGERS)
    for type in TYPES
    for method, payload in (("_create", b"{}"), ("_read", b"{}"), ("_replace", b'{"state":{}}'), ("_delete", b"{}"))
}
ROWS |= {(type.object_type, "_pending"): (b"{}", MANAGERS if type.management == "raw" else set()) for type in TYPES} | {
    (type.object_type, "_hibernate"): (b"{}", MANAGERS) for type in TYPES
}
# Methods for hosts alone, unknown to the gateway.
INWARD = {"_alarm": b'{"alarm":{"name":"tea"}}', "_expire": b"{}", "_vanish": b'{"project":"p"}'}
ROWS |= {(type.object_type, method): (payload, SERVICE) for type in TYPES for method, payload in INWARD.items()}
# Methods for those who move objects; the types of most services leave their states to the fleet's owner alone.
MOVING = {"_load": b'{"state":{}}', "_check": b'{"state":{}}', "_migrate": b"{}"}
ROWS |= {
    (type.object_type, method): (
        payload,
        {"admin"} if method == "_migrate" or type.management != "read_only" else set(),
    )
    for type in TYPES
    for method, payload in MOVING.items()
}
INWARD |= MOVING
# Users whose sessions, status or roles change after their tokens were issued.
LIVE = ("ended", "deactivated", "custom")
CALLERS = ("nobody", "expired", "forged", "stranger", "user", "reader", "writer", "manager", "service", "admin")
UNKNOWN = {"nobody", "expired", "forged", "ended", "deactivated"}
REFUSALS = (401, 403)
AT_ONCE = 32


def test_every_method_of_every_shipped_type_has_a_row() -> None:
    types = DurableObjectRegistry(TYPES).types.values()

    assert {(type.name, method) for type in types for method in type.methods} == set(ROWS)


async def test_every_type_that_the_fleet_announces_has_its_methods_here(world: World) -> None:
    connection = await nats.connect(world.servers.nats_url("fleet"))
    stream = f"KV_{subjects.TYPES_BUCKET}"
    # The keys that nats-py lists lack some, or all, if the consumer is faster than the answer about it.
    state = (await connection.jetstream().stream_info(stream, subjects_filter=">")).state
    entries = [await connection.jetstream().get_last_msg(stream, subject) for subject in state.subjects or {}]
    described = [msgspec.json.decode(entry.data or b"", type=TypeDescription) for entry in entries]
    await connection.close()

    announced = {(type.type, method.name) for type in described for method in type.methods}
    assert announced == {(type, method) for type, method in ROWS if not method.startswith("_")}


@pytest.mark.parametrize("type", sorted({type for type, _ in ROWS}))
async def test_only_who_may_call_a_method_gets_past_its_rule(
    door: EntryPoint, world: World, live: dict[str, str], new_id: str, type: str
) -> None:
    credentials = {caller: credential(world, caller) for caller in CALLERS} | live
    over_http = isinstance(door, HttpEntryPoint)
    methods = [method for of, method in ROWS if of == type and not (over_http and method in INWARD)]
    cases = [(method, caller) for method in methods for caller in credentials]
    at_once = asyncio.Semaphore(AT_ONCE)

    async def outcome(number: int, method: str, caller: str) -> int:
        payload, _ = ROWS[type, method]
        try:
            async with at_once:
                await door.call(type, f"{new_id}{number}", method, payload, authorization=credentials[caller])
        except Failure as failure:
            return failure.status
        return 200

    outcomes = await asyncio.gather(*(outcome(number, *case) for number, case in enumerate(cases)))

    assert [
        (*case, status)
        for case, status in zip(cases, outcomes, strict=True)
        if refusal(type, *case) != (status if status in REFUSALS else None)
    ] == []


def refusal(type: str, method: str, caller: str) -> int | None:
    """Return the status with which the caller must be refused, or None if the method's rule admits the caller."""
    _, allowed = ROWS[type, method]
    if caller in UNKNOWN and caller not in allowed:
        return 401
    passes = caller in allowed or (caller == "custom" and allowed & {"writer", "stranger"})
    return None if passes else 403


@pytest.fixture(scope="module")
def live(world: World) -> dict[str, str]:
    """Return tokens of real users by kind of caller; the custom role has a writer's permissions."""
    with blocking_http_client(base_url=world.url, timeout=20) as http:
        pairs = {kind: _logged_in(http, kind) for kind in LIVE}
        admin = {"Authorization": world.admin}
        role = {
            "name": "custom",
            "permissions": ["objects:request", "counter:write", "account:write", "chat_room:write"],
        }
        path = {kind: f"/users/{pair['user']['id']}" for kind, pair in pairs.items()}
        tokens = {kind: f"Bearer {pair['access_token']}" for kind, pair in pairs.items()}
        for answer in (
            http.post("/roles", json=role, headers=admin),
            http.put(path["custom"], json={"roles": ["custom"]}, headers=admin),
            http.post(f"{path['deactivated']}/deactivate", headers=admin),
            http.post("/auth/logout", headers={"Authorization": tokens["ended"]}),
        ):
            assert answer.is_success, answer.text
    # A change takes effect everywhere within a second; not every process can be asked.
    time.sleep(1)
    return tokens


def _logged_in(http: httpx2.Client, kind: str) -> Any:
    name, password = f"{kind}{secrets.token_hex(6)}", "wheelbarrow at noon"
    made = http.post("/auth/register", json={"username": name, "email": f"{name}@example.org", "password": password})
    assert made.status_code == 201, made.text
    return http.post("/auth/login", json={"username": name, "password": password}).json()


async def test_the_http_api_asks_for_its_own_permission_too(world: World, new_id: str) -> None:
    async with http_client(base_url=world.url) as client:
        with pytest.raises(Failure) as caught:
            await HttpEntryPoint(client).call("counter", new_id, "value", authorization=world.token("counter:read"))

    assert caught.value.status == 403


def credential(world: World, caller: str) -> str | None:
    """Return the Authorization header of a kind of caller."""
    if caller == "nobody":
        return None
    if caller == "expired":
        past = TokenIssuer(world.issuer.keys, world.servers.public_url, now=lambda: time.time() - 10_000)
        return "Bearer " + past.issue("tester", roles=("admin",))
    if caller == "forged":
        forged = SigningKey(world.issuer.keys.at(time.time()).id, Ed25519PrivateKey.generate())
        return "Bearer " + TokenIssuer(forged, world.servers.public_url).issue("tester", roles=("admin",))
    roles = {"service": ("service",), "admin": ("admin",)}.get(caller, ())
    permissions = {
        "reader": ("objects:request", "counter:read", "account:read", "chat_room:read"),
        "writer": ("objects:request", "counter:write", "account:write", "chat_room:write"),
        "manager": ("objects:request", "objects:manage"),
        "service": ("objects:request",),
        "stranger": ("objects:request",),
        "user": ("objects:request", "projects:create"),
    }.get(caller, ())
    return world.token(*permissions, roles=roles, subject=caller)
