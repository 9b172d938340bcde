"""The commands for users, keys, data, projects, tasks, webhooks and dead letters: each does what it says."""

from __future__ import annotations

import asyncio
import http.server
import io
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import msgspec
import nats
import pytest

from aidevos.cli.main import main
from aidevos.process.fleet import Fleet
from tests.support.gateway_world import described
from tests.support.http import blocking_http_client
from tests.support.letters import bury
from tests.support.mails import in_folder
from tests.support.receiver import ADDRESS
from tests.support.servers import free_port
from tests.support.world import World

PASSWORD = "wheelbarrow at noon"
T = TypeVar("T")


class Aidevos:
    """The command, run in this process as the administrator of the fleet on this machine."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.notice = ""

    def __call__(self, *arguments: str, stdin: str = "", status: int = 0) -> str:
        """Return what the command prints. What it prints on standard error is its `notice`."""
        self._monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        ended = main(arguments)
        output = self._capsys.readouterr()
        assert ended == status, output.err
        self.notice = output.err
        return output.out

    def json(self, *arguments: str, **options: Any) -> Any:
        return json.loads(self(*arguments, "--json", **options))

    def refused(self, *arguments: str, status: int) -> str:
        """Return the line that a command prints which is refused."""
        assert self(*arguments, status=status) == ""
        assert self.notice.startswith("aidevos: ")
        assert self.notice.count("\n") == 1
        return self.notice


@pytest.fixture(scope="module")
def home(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the home of a fleet on this machine, which is the shared one."""
    home = tmp_path_factory.mktemp("home")
    (home / "keys").symlink_to(world.servers.home / "keys")
    (home / "outbox").symlink_to(world.servers.home / "outbox")
    texts = dict.fromkeys(Fleet.__struct_fields__, "")
    told = {"gateway_url": world.url, "public_url": world.servers.public_url, "admin_username": "admin"}
    (home / "fleet.json").write_bytes(msgspec.json.encode({**texts, **told, "processes": []}))
    return home


@pytest.fixture
def aidevos(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Aidevos:
    monkeypatch.setenv("AIDEVOS_HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return Aidevos(capsys, monkeypatch)


@pytest.fixture
def web(world: World) -> Iterator[httpx2.Client]:
    with blocking_http_client(base_url=world.url, timeout=20) as client:
        yield client


@pytest.fixture
def name() -> str:
    return f"n{secrets.token_hex(6)}"


def until(found: Callable[[], T], within: float = 20.0) -> T:
    """Return what is found, once there is anything."""
    end = time.monotonic() + within
    while not (value := found()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


def make_user(aidevos: Aidevos, name: str, *options: str) -> dict[str, Any]:
    return dict(aidevos.json("users", "create", name, f"{name}@example.org", *options, stdin=f"{PASSWORD}\n"))


def log_in(web: httpx2.Client, name: str) -> httpx2.Response:
    return web.post("/auth/login", json={"username": name, "password": PASSWORD})


def bearer(login: httpx2.Response) -> dict[str, str]:
    return {"Authorization": f"Bearer {login.json()['access_token']}"}


class TestTransfers:
    """The same commands as the owner on the fleet's machine, and as an administrator anywhere."""

    @pytest.fixture(params=["owner", "administrator"])
    def mover(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, world: World) -> str:
        if request.param == "administrator":
            monkeypatch.setenv("AIDEVOS_HOME", "/nowhere")
            monkeypatch.setenv("AIDEVOS_URL", world.url)
            monkeypatch.setenv("AIDEVOS_TOKEN", world.admin.removeprefix("Bearer "))
        return str(request.param)

    def test_exported_objects_are_imported_again(
        self, aidevos: Aidevos, mover: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(3):
            aidevos("objects", "call", f"counter:{name}{number}", "increment", f"by={number + 1}")
        file = tmp_path / "counters.ndjson"

        aidevos("objects", "export", "counter", "--where", '{"value": {"gte": 2}}', "--output", str(file))
        lines = [line for line in map(json.loads, file.read_text().splitlines()) if line["id"].startswith(name)]
        assert [line["state"] for line in lines] == [{"value": 2}, {"value": 3}]
        changed = [{**line, "state": {"value": 7}} for line in lines]
        moved = [*changed, {"type": "counter", "id": f"{name}new", "state": {"value": 9}}]
        file.write_text("".join(json.dumps(line) + "\n" for line in moved))

        assert aidevos("objects", "import", str(file), "--dry-run", status=3).startswith("would be created 1, ")
        assert "2 of 3 objects failed" in aidevos.notice
        assert aidevos.json("objects", "import", str(file), "--on-conflict", "skip")["skipped"] == 2
        assert aidevos("objects", "call", f"counter:{name}2", "value") == "3\n"
        assert aidevos.json("objects", "import", str(file), "--on-conflict", "replace")["replaced"] == 3
        # The object was in memory meanwhile.
        assert aidevos("objects", "call", f"counter:{name}2", "increment") == "8\n"
        assert aidevos("objects", "call", f"counter:{name}new", "value") == "9\n"

    def test_states_of_the_services_are_for_the_owner(self, aidevos: Aidevos, mover: str, name: str) -> None:
        if mover == "owner":
            assert '"username":"admin"' in aidevos("objects", "export", "user")
        else:
            assert "owner of the fleet only" in aidevos.refused("objects", "export", "user", status=4)
        assert "user" in aidevos("objects", "migrate", "user", "counter")
        trials = aidevos.json("objects", "migrate", "--dry-run")
        assert {"counter", "account"} <= {each["type"] for each in trials}
        assert ("user" in {each["type"] for each in trials}) == (mover == "owner")
        assert ("only the owner" in aidevos.notice) == (mover != "owner")

    def test_a_type_that_nobody_serves_is_forgotten(
        self, aidevos: Aidevos, mover: str, world: World, name: str
    ) -> None:
        async def announce() -> None:
            connection = await nats.connect(world.servers.nats_url("objects"), inbox_prefix="_INBOX_objects")
            bucket = await connection.jetstream().key_value("types")
            await bucket.put(name, msgspec.json.encode(described(name)))
            await connection.close()

        def known() -> dict[str, bool]:
            return {each["type"]: each["served"] for each in aidevos.json("types", "list")}

        asyncio.run(announce())
        until(lambda: name in known())
        assert known()["counter"] is True
        assert "stop it first" in aidevos.refused("types", "forget", "counter", status=6)
        aidevos("types", "forget", name)
        until(lambda: name not in known())
        aidevos.refused("types", "forget", name, status=5)


class TestUsers:
    def test_the_administrator_of_this_machine_is_a_user(self, aidevos: Aidevos) -> None:
        assert aidevos.json("users", "get", "me")["username"] == "admin"

    def test_a_created_user_can_log_in_and_is_found_by_each_name(
        self, aidevos: Aidevos, web: httpx2.Client, name: str
    ) -> None:
        made = make_user(aidevos, name, "--full-name", "Grace Hopper")

        assert log_in(web, name).status_code == 200
        for each in (made["id"], name.upper(), f"{name}@example.org"):
            assert aidevos.json("users", "get", each) == made
        assert [user["id"] for user in aidevos.json("users", "list", "--search", name)] == [made["id"]]
        assert f"{name}@example.org" in aidevos("users", "list", "--search", name, "--role", "user")
        assert aidevos.refused("users", "get", f"{name}-not", status=5).startswith(
            f"aidevos: there is no user '{name}-"
        )

    def test_a_search_of_any_type_is_asked_over_http(self, aidevos: Aidevos, web: httpx2.Client, name: str) -> None:
        made = [make_user(aidevos, f"{name}{number}") for number in range(3)]
        search = ["objects", "search", "user", "search", f"q={name}"]
        key = {"X-Api-Key": aidevos("keys", "create", "k", "--scope", "objects:request").strip()}
        path = "/durable-objects/user/searches/search"

        assert aidevos.json(*search, "sort=-username", "limit=2") == made[::-1]
        assert aidevos.json(*search, "limit=1", "--limit", "2") == made[:2]
        assert f"{name}1@example.org" in aidevos(*search)
        assert "sort" in aidevos.refused(*search, "sort=size", status=2)
        assert "nothing" in aidevos.refused(*search, "nothing=1", status=2)
        assert "no search or view" in aidevos.refused("objects", "search", "user", "nothing", status=5)
        assert "no host serves" in aidevos.refused("objects", "search", "nothing", "search", status=5)
        assert "users:read" in web.get(path, headers=key).text
        assert web.get(path).status_code == 401
        # Everyone may ask this view, which shows what its caller may see.
        seen = web.get("/durable-objects/collection/searches/visible?limit=1")
        assert (seen.status_code, "items" in seen.json()) == (200, True)

    def test_an_invited_user_chooses_the_password(self, aidevos: Aidevos, world: World, name: str) -> None:
        made = aidevos.json("users", "create", name, f"{name}@example.org", "--invite")

        (mail,) = until(lambda: in_folder(world.servers.home / "outbox", f"{name}@example.org"))
        assert (made["username"], mail["Subject"]) == (name, "Choose a new password")
        assert "users list" in aidevos.refused("users", "get", f"{name}x", status=5)
        assert "email" in aidevos.refused("users", "create", f"{name}x", "nowhere", "--invite", status=2)

    def test_a_role_counts_for_the_user_who_gets_it(self, aidevos: Aidevos, web: httpx2.Client, name: str) -> None:
        aidevos("roles", "create", name, "users:read", "--description", "Clerks")
        make_user(aidevos, name, "--role", name)
        headers = bearer(log_in(web, name))

        assert web.get("/users?limit=1", headers=headers).status_code == 200
        assert aidevos.json("users", "change", name, "--remove-role", name)["roles"] == ["user"]
        until(lambda: web.get("/users?limit=1", headers=headers).status_code == 403)
        changed = aidevos.json("roles", "change", name, "--add", "audit:read", "--remove", "users:read")
        assert (changed["permissions"], changed["description"]) == (["audit:read"], "Clerks")
        assert aidevos.json("users", "change", name, "--add-role", name)["roles"] == sorted(["user", name])
        until(lambda: web.get("/audit?limit=1", headers=headers).status_code == 200)
        assert "users have this role" in aidevos.refused("roles", "delete", name, "--yes", status=6)
        aidevos("users", "change", name, "--remove-role", name)
        assert name in aidevos("roles", "list")
        aidevos("roles", "delete", name, "--yes")
        assert "not-found" in aidevos.refused("roles", "get", name, status=5)

    def test_a_deactivated_user_is_out_until_activated(self, aidevos: Aidevos, web: httpx2.Client, name: str) -> None:
        make_user(aidevos, name)

        assert "--yes" in aidevos.refused("users", "deactivate", name, status=2)
        assert log_in(web, name).status_code == 200
        aidevos("users", "deactivate", name, "--yes")
        assert log_in(web, name).status_code == 401
        aidevos("users", "activate", name)
        assert log_in(web, name).status_code == 200

    def test_sessions_are_listed_and_ended(self, aidevos: Aidevos, web: httpx2.Client, name: str) -> None:
        make_user(aidevos, name)
        first, second = log_in(web, name), log_in(web, name)

        listed = aidevos.json("users", "sessions", name)
        ended = next(each["id"] for each in listed if each["id"] in first.json()["refresh_token"])
        aidevos("users", "end-sessions", name, ended)
        until(lambda: web.get("/auth/me", headers=bearer(first)).status_code == 401)
        assert web.get("/auth/me", headers=bearer(second)).status_code == 200
        aidevos("users", "end-sessions", name)
        until(lambda: web.get("/auth/me", headers=bearer(second)).status_code == 401)

    def test_a_password_is_reset_by_mail(self, aidevos: Aidevos, home: Path, name: str) -> None:
        make_user(aidevos, name)
        to = f"{name}@example.org"

        assert to in aidevos("users", "reset-password", name)
        until(lambda: [each for each in mails(home) if to in each and "/auth/password/reset" in each])

    def test_a_deleted_user_is_erased(self, aidevos: Aidevos, name: str) -> None:
        made = make_user(aidevos, name)

        aidevos("users", "delete", name, "--yes")
        aidevos.refused("users", "get", made["id"], status=5)


def mails(home: Path) -> list[str]:
    return [path.read_text() for path in (home / "outbox").iterdir() if not path.name.startswith(".")]


class TestKeys:
    def test_a_key_works_within_its_bounds_until_it_is_revoked(
        self, aidevos: Aidevos, web: httpx2.Client, name: str
    ) -> None:
        scopes = ["--scope", "profile:self", "--scope", "data:read"]
        key = aidevos("keys", "create", name, *scopes, "--expires", "1h", "--rate", "100/1m").strip()
        (made,) = [each for each in aidevos.json("keys", "list") if each["name"] == name]

        def status(key: str) -> int:
            return web.get("/data/collections", headers={"X-Api-Key": key}).status_code

        assert key not in aidevos.notice
        assert status(key) == 200
        assert ({*made["scopes"]}, made["limits"]) == ({"data:read", "profile:self"}, {"rate": 100, "window": 60.0})
        assert made["expires_at"]
        changed = aidevos.json("keys", "change", made["id"], "--rate", "none", "--expires", "none", "--name", "other")
        assert (changed["limits"], changed["expires_at"], changed["name"]) == (None, None, "other")
        second = aidevos.json("keys", "rotate", made["id"])["key"]
        until(lambda: status(key) == 401)
        assert status(second) == 200
        assert "--yes" in aidevos.refused("keys", "revoke", made["id"], status=2)
        aidevos("keys", "revoke", made["id"], "--yes")
        until(lambda: status(second) == 401)
        aidevos.refused("keys", "get", made["id"], status=5)


class TestData:
    def test_an_item_is_put_patched_shown_and_deleted(self, aidevos: Aidevos, name: str) -> None:
        item = (name, "sicp")
        assert aidevos.json("data", "put", *item, "title=SICP", "price=40")["data"] == {"title": "SICP", "price": 40}
        assert aidevos.json("data", "put", *item, "-", stdin='["any", "JSON"]')["data"] == ["any", "JSON"]
        assert aidevos.json("data", "put", *item, '{"price": 30, "old": 1}')["version"] == 3
        assert aidevos.json("data", "patch", *item, "price=35", "old=null")["data"] == {"price": 35}
        assert "precondition-failed" in aidevos.refused("data", "put", *item, "a=1", "--if-match", "3", status=6)
        assert aidevos.json("data", "get", *item, "--fields", "price")["data"] == {"price": 35}
        assert "--yes" in aidevos.refused("data", "delete", *item, status=2)
        aidevos("data", "delete", *item, "--yes")
        aidevos.refused("data", "get", *item, status=5)

    def test_items_are_found_by_conditions_and_sorted(self, aidevos: Aidevos, name: str) -> None:
        for id, price in (("a", 10), ("b", 20), ("c", 30), ("d", 40)):
            aidevos("data", "put", name, id, f"price={price}", f"title=Book {id}", "tags=[1]")

        found = aidevos("data", "find", name, "price>=20", "price<40", "title^=Book", "tags*=1", "--sort", "-price")
        assert [line.split()[0] for line in found.splitlines()] == ["ID", "c", "b"]
        assert aidevos("data", "find", name, "--where", '{"price": {"in": [10, 40]}}', "--count") == "2\n"
        assert len(aidevos.json("data", "find", name, "--limit", "3")) == 3
        assert [each["count"] for each in aidevos.json("data", "collections") if each["name"] == name] == [4]
        aidevos("data", "drop", name, "--yes")
        aidevos.refused("data", "find", name, status=5)

    def test_a_configuration_is_shown_in_the_form_in_which_it_is_taken(self, aidevos: Aidevos, name: str) -> None:
        aidevos("data", "configure", name, '{"history": true, "indexes": [["price"]]}')
        aidevos("data", "put", name, "a", "price=1")
        aidevos("data", "put", name, "a", "price=2")

        config = aidevos("data", "config", name, "--json")
        assert aidevos.json("data", "configure", name, "-", stdin=config)["indexes"] == [["price"]]
        assert [each["version"] for each in aidevos.json("data", "history", name, "a")] == [2, 1]
        assert aidevos.json("data", "restore", name, "a", "1")["data"] == {"price": 1}

    def test_an_export_brings_every_item_and_an_import_creates_it(
        self, aidevos: Aidevos, name: str, tmp_path: Path
    ) -> None:
        file, copy = tmp_path / "items.ndjson", tmp_path / "copy.ndjson"
        lines = [json.dumps({"id": f"i{number:03}", "data": {"number": number}}) for number in range(510)]
        file.write_text("\n".join(lines) + "\n")

        assert aidevos("data", "import", name, str(file)) == "created 510, replaced 0, skipped 0\n"
        aidevos("data", "export", name, "--output", str(copy))
        assert [json.loads(line) for line in copy.read_text().splitlines()] == [json.loads(line) for line in lines]
        assert aidevos.notice == "510 items\n"
        few = aidevos("data", "export", name, "number>=500", "number<502")
        assert few == '{"id":"i500","data":{"number":500}}\n{"id":"i501","data":{"number":501}}\n'

    def test_an_import_names_each_line_that_fails_and_does_the_rest(self, aidevos: Aidevos, name: str) -> None:
        aidevos("data", "put", name, "a", "number=1")
        lines = '{"id": "b", "data": 2}\n\nno JSON\n{"id": "a", "data": {"number": 3}}\n{"id": "a b", "data": 4}\n'

        assert aidevos("data", "import", name, "-", stdin=lines, status=3) == "created 1, replaced 0, skipped 0\n"
        failed = [line.partition(": ")[0] for line in aidevos.notice.splitlines()]
        assert failed == ["line 3", "line 4", "line 5", "aidevos"]
        done = aidevos.json("data", "import", name, "-", "--on-conflict", "replace", stdin=lines, status=3)
        assert (done["created"], done["replaced"], done["failed"]) == (0, 2, 2)
        assert aidevos.json("data", "get", name, "a")["data"] == {"number": 3}
        skipped = aidevos.json("data", "import", name, "-", "--on-conflict", "skip", stdin=lines, status=3)
        assert skipped["skipped"] == 2


class TestProjectsAndTasks:
    def test_a_project_and_its_members_are_changed_and_removed(self, aidevos: Aidevos, name: str) -> None:
        user = make_user(aidevos, name)
        made = aidevos.json("projects", "create", name, "--description", "An engine")

        assert aidevos.json("projects", "get", name) == aidevos.json("projects", "get", made["id"])
        aidevos("projects", "set-member", name, name, "maintainer")
        members = aidevos.json("projects", "members", made["id"])
        assert {"user_id": user["id"], "role": "maintainer"} in members
        assert [each["id"] for each in aidevos.json("projects", "list", "--member", name)] == [made["id"]]
        aidevos("projects", "remove-member", name, user["id"])
        assert len(aidevos.json("projects", "members", name)) == 1
        assert aidevos.json("projects", "change", name, "--description", "")["description"] == ""
        aidevos.json("projects", "create", name)
        assert "2 projects are called" in aidevos.refused("projects", "get", name, status=2)
        assert "--yes" in aidevos.refused("projects", "delete", made["id"], status=2)
        assert "is deleted" in aidevos("projects", "delete", made["id"], "--yes")
        aidevos.refused("projects", "get", made["id"], status=5)

    def test_a_task_is_waited_for_and_shows_its_result(self, aidevos: Aidevos, name: str) -> None:
        aidevos("projects", "create", name)
        aidevos("data", "put", name, "bolt", "count=4")

        done = aidevos.json("tasks", "create", name, "data.export", f"collection={name}", "--wait", "--timeout", "1m")
        assert (done["status"], done["result"]["count"], done["timeout"]) == ("succeeded", 1, 60.0)
        assert aidevos.json("tasks", "get", done["id"]) == done
        assert [each["id"] for each in aidevos.json("tasks", "list", name, "--status", "succeeded")] == [done["id"]]
        aidevos("tasks", "delete", done["id"], "--yes")
        aidevos.refused("tasks", "get", done["id"], status=5)

    def test_a_task_that_fails_has_a_status_of_its_own(self, aidevos: Aidevos, name: str) -> None:
        aidevos("projects", "create", name)

        shown = aidevos("tasks", "create", name, "data.export", "collection=nowhere", "--wait", status=3)
        assert "the task has failed: not-found" in aidevos.notice
        assert "failed" in shown
        (task,) = aidevos.json("tasks", "list", name)
        assert aidevos.json("tasks", "retry", task["id"], "--wait", status=3)["status"] == "failed"

    def test_a_task_that_waits_is_cancelled(self, aidevos: Aidevos, name: str) -> None:
        aidevos("projects", "create", name)
        later = ["--run-at", "1h", "--priority", "5", "--attempts", "1"]
        queued = aidevos.json("tasks", "create", name, "report", "--payload", '{"month": 5}', *later)

        assert (queued["status"], queued["priority"], queued["retry"]["max_attempts"]) == ("queued", 5, 1)
        assert aidevos.json("tasks", "cancel", queued["id"])["status"] == "cancelled"
        assert "cancelled" in aidevos("tasks", "watch", queued["id"], status=3)


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[int]]]:
    """Yield the URL of a receiver of webhooks, and the statuses that it answers next; afterwards, it answers 204."""
    statuses: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(statuses.pop(0) if statuses else 204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with http.server.ThreadingHTTPServer((ADDRESS, free_port()), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{ADDRESS}:{server.server_port}/", statuses
        server.shutdown()


class TestWebhooks:
    def test_a_webhook_is_tested_and_its_deliveries_are_replayed(
        self, aidevos: Aidevos, receiver: tuple[str, list[int]], name: str
    ) -> None:
        url, statuses = receiver
        secret = aidevos("webhooks", "create", url, "item.*", "--collection", name, "--description", name).strip()
        (made,) = [each for each in aidevos.json("webhooks", "list") if each["description"] == name]
        id = made["id"]

        assert secret.startswith("whsec_")
        assert "delivered" in aidevos("webhooks", "test", id)
        statuses[:] = [410]
        assert "410" in aidevos("webhooks", "test", id, status=3) or "410" in aidevos.notice
        (failed,) = until(lambda: aidevos.json("webhooks", "deliveries", id, "--status", "failed"))
        assert aidevos.json("webhooks", "delivery", id, failed["id"])["attempts"][0]["status"] == 410
        assert aidevos.json("webhooks", "change", id, "--active", "--collection", "none")["collections"] == []
        assert "--failed" in aidevos.refused("webhooks", "replay", id, status=2)
        aidevos("webhooks", "replay", id, "--failed")
        until(lambda: aidevos.json("webhooks", "delivery", id, failed["id"])["status"] == "delivered")
        assert aidevos("webhooks", "rotate-secret", id, "--overlap", "0").strip() not in ("", secret)
        aidevos("webhooks", "delete", id, "--yes")
        aidevos.refused("webhooks", "get", id, status=5)


class TestDeadLetters:
    def test_a_letter_is_listed_replayed_and_deleted(self, aidevos: Aidevos, world: World, name: str) -> None:
        def buried(id: str, subject: str) -> None:
            async def work() -> None:
                connection = await nats.connect(world.servers.nats_url("client"))
                await bury(world, connection, id, subject)
                await connection.close()

            asyncio.run(work())

        good, bad = f"{name}a", f"{name}b"
        buried(good, f"do.counter.{good}.increment")
        buried(bad, f"do.counter.{bad}.nothing")

        assert f"counter:{good}" in aidevos("dead-letters", "list", "--status", "dead", "--kind", "tell")
        found = ["dead-letters", "list", "--source", f"counter:{good}"]
        assert [each["id"] for each in aidevos.json(*found)] == [good]
        assert aidevos.json(*found, "--before", "1h") == []
        assert aidevos.json("dead-letters", "get", good)["args"] == {"by": 3}
        (replayed,) = aidevos.json("dead-letters", "replay", good)
        assert replayed["status"] == "replayed"
        assert aidevos("objects", "call", f"counter:{good}", "value") == "3\n"
        assert "unknown-method" in aidevos("dead-letters", "replay", bad, status=3)
        assert "1 of 1 letters" in aidevos.notice
        assert "--yes" in aidevos.refused("dead-letters", "delete", good, bad, status=2)
        aidevos("dead-letters", "delete", good, bad, "--yes")
        assert aidevos.json(*found) == []
