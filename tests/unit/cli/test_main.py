"""The command `aidevos`: its output, and its errors (one line and status 2)."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from aidevos import TaskContext, task
from aidevos.cli import openapi, owner
from aidevos.cli.main import main
from aidevos.contracts.errors import Failure
from aidevos.process.fleet import Fleet
from aidevos.security.access import Claims
from aidevos.security.keys import ensure_signing_key, load_public_keys, load_ring
from aidevos.security.service_keys import load_registrations, register
from aidevos.security.tokens import NeedsLookup, TokenVerifier
from aidevos.settings import load
from tests.support.fake_gateway import FakeGateway

Output = pytest.CaptureFixture[str]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIDEVOS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def assert_refused(status: int, capsys: Output, *words: str, expected: int = 2) -> None:
    output = capsys.readouterr()
    assert (status, output.out) == (expected, "")
    assert output.err.startswith("aidevos: ")
    assert output.err.count("\n") == 1
    assert all(word in output.err for word in words), output.err


def signed(home: Path, token: str) -> Claims:
    """Return the claims of a genuine token without looking it up."""
    with pytest.raises(NeedsLookup) as genuine:
        TokenVerifier(lambda: load_public_keys(home), load().public_url).verify(f"Bearer {token.strip()}")
    return genuine.value.claims


def write_fleet(home: Path, url: str, **told: str) -> None:
    texts = {name: "x" for name in Fleet.__struct_fields__ if name != "processes"}
    home.mkdir(exist_ok=True)
    (home / "fleet.json").write_bytes(msgspec.json.encode({**texts, "gateway_url": url, "processes": [], **told}))


class Fleets:
    """Stands for the client of the running fleet. A call answers as its type and method say, or fails."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str, Any]] = []
        self.failure: Failure | None = None

    async def call(self, type: str, id: str, method: str, /, **args: Any) -> None:
        self.calls.append((type, id, method, args))
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def fleet(home: Path, monkeypatch: pytest.MonkeyPatch) -> Fleets:
    """Make a home with a signing key, and a fleet that is up."""
    ensure_signing_key(home)
    write_fleet(home, "http://127.0.0.1:9", public_url=load().public_url)
    fleet = Fleets()

    monkeypatch.setattr(owner, "_open", lambda *args: contextlib.nullcontext(fleet))
    return fleet


class TestToken:
    def test_it_prints_a_valid_token_and_nothing_else(self, home: Path, fleet: Fleets, capsys: Output) -> None:
        status = main(["token", "--role", "admin", "--permission", "x:y", "--subject", "me", "--lifetime", "60"])

        output = capsys.readouterr()
        assert (status, output.err, output.out.count("\n")) == (0, "", 1)
        claims = signed(home, output.out)
        assert (claims.subject, claims.roles, claims.permissions) == ("me", ("admin",), {"x:y"})
        assert claims.expires_at - claims.issued_at == 60

    def test_the_fleet_records_a_token_before_it_is_printed(self, home: Path, fleet: Fleets, capsys: Output) -> None:
        main(["token", "--role", "admin", "--permission", "x:y"])

        claims = signed(home, capsys.readouterr().out)
        recorded = {"subject": "cli", "roles": ["admin"], "permissions": ["x:y"], "expires_at": int(claims.expires_at)}
        assert fleet.calls == [("access_token", claims.record, "register", recorded)]

    def test_a_token_that_is_not_recorded_is_not_printed(self, fleet: Fleets, capsys: Output) -> None:
        fleet.failure = Failure("unavailable", "no process answered")

        assert_refused(main(["token"]), capsys, "no process answered", expected=1)

    def test_without_a_fleet_that_is_up_there_is_no_token(self, home: Path, capsys: Output) -> None:
        ensure_signing_key(home)

        assert_refused(main(["token"]), capsys, "no fleet is up", "make up")

    def test_a_server_that_does_not_answer_is_named(self, home: Path, capsys: Output) -> None:
        ensure_signing_key(home)
        write_fleet(home, "http://127.0.0.1:9", nats_url="nats://127.0.0.1:9")

        assert_refused(main(["token"]), capsys, "nats://127.0.0.1:9", expected=1)

    def test_without_a_role_it_allows_what_was_named(self, home: Path, fleet: Fleets, capsys: Output) -> None:
        main(["token", "--permission", "counter:read"])

        claims = signed(home, capsys.readouterr().out)

        assert (claims.roles, claims.permissions) == ((), {"counter:read"})

    def test_a_token_that_outlives_the_services_own_keeps_its_key(
        self, home: Path, fleet: Fleets, capsys: Output
    ) -> None:
        main(["token", "--lifetime", "900"])
        usual = load_ring(home)[0].needed_until
        main(["token", "--lifetime", "86400"])

        (kept,) = load_ring(home)
        assert usual == 0.0
        assert kept.needed_until == pytest.approx(time.time() + 86400, abs=30)

    def test_its_issuer_is_the_running_fleets(
        self, home: Path, fleet: Fleets, capsys: Output, monkeypatch: Any
    ) -> None:
        write_fleet(home, "http://127.0.0.1:9", public_url="https://api.example.org")
        main(["token", "--role", "admin"])
        monkeypatch.setenv("AIDEVOS_PUBLIC_URL", "https://api.example.org")

        assert signed(home, capsys.readouterr().out).roles == ("admin",)

    def test_without_a_key_it_says_where_it_looked(self, home: Path, capsys: Output) -> None:
        assert_refused(main(["token"]), capsys, "AIDEVOS_HOME", str(home))
        assert not home.exists()

    def test_an_unknown_role_is_named(self, home: Path, capsys: Output) -> None:
        assert_refused(main(["token", "--role", "king"]), capsys, "king", "admin")

    def test_a_lifetime_may_have_a_unit(self, home: Path, fleet: Fleets, capsys: Output) -> None:
        assert main(["token", "--lifetime", "30d"]) == 0

        claims = signed(home, capsys.readouterr().out)
        assert claims.expires_at - claims.issued_at == 30 * 86_400

    @pytest.mark.parametrize("lifetime", ["0", "-1", "nan", "inf", "soon", "20000d"])
    def test_a_lifetime_that_is_none_is_refused(self, home: Path, capsys: Output, lifetime: str) -> None:
        assert_refused(main(["token", f"--lifetime={lifetime}"]), capsys, "--lifetime")


class TestTokens:
    @pytest.fixture(autouse=True)
    def known(self, home: Path, gateway: FakeGateway) -> None:
        ensure_signing_key(home)
        write_fleet(home, gateway.url, public_url=load().public_url)

    def test_the_list_shows_what_each_token_allows(self, gateway: FakeGateway, capsys: Output) -> None:
        token = {"id": "t1", "subject": "cli", "roles": ["admin"], "permissions": ["x:y"]}
        times = {"created_at": "2026-11-29T00:00:00.000Z", "expires_at": "2026-11-29T00:15:00.000Z"}
        gateway.answers["GET /access-tokens"] = 200, {"items": [token | times], "next_cursor": None}

        status = main(["tokens", "list"])

        header, row = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert (status, header[0]) == (0, "ID")
        assert row == ["t1", "2026-11-29T00:00:00.000Z", "2026-11-29T00:15:00.000Z", "cli", "admin", "x:y"]

    def test_a_token_is_revoked_by_its_id(self, gateway: FakeGateway, capsys: Output) -> None:
        gateway.answers["DELETE /access-tokens/t1"] = 204, None

        assert main(["tokens", "revoke", "t1"]) == 0

    def test_an_unknown_token_can_not_be_revoked(self, gateway: FakeGateway, capsys: Output) -> None:
        assert_refused(main(["tokens", "revoke", "t1"]), capsys, "not-found", expected=5)

    def test_what_can_not_be_an_id_is_refused(self, gateway: FakeGateway, capsys: Output) -> None:
        assert_refused(main(["tokens", "revoke", "x.y"]), capsys, "x.y", "aidevos tokens list")


class TestSigningKeys:
    @pytest.mark.parametrize(("options", "kept"), [([], 2), (["--now"], 1)])
    def test_a_rotation_replaces_the_keys_of_services_too(self, home: Path, options: list[str], kept: int) -> None:
        ensure_signing_key(home)
        register(home, "objects")
        (before,) = load_registrations(home)["objects"].keys

        assert main(["signing-keys", "rotate", *options]) == 0
        *old, new = load_registrations(home)["objects"].keys
        assert new.id != before.id
        assert len(old) + 1 == kept

    def test_a_rotation_lets_the_next_key_wait_and_the_list_tells_of_both(self, home: Path, capsys: Output) -> None:
        first = ensure_signing_key(home)

        status = main(["signing-keys", "rotate"])
        rotated = capsys.readouterr().out
        main(["signing-keys", "list"])

        assert (status, capsys.readouterr().out) == (0, rotated)
        header, *rows = [line.split() for line in rotated.splitlines()]
        second = load_ring(home)[1]
        assert header[0] == "ID"
        assert [row[:2] for row in rows] == [[first.id, "signs"], [second.id, "waits"]]
        assert second.signs_from - second.made_at == pytest.approx(load().key_notice)
        assert rows[0][4] == rows[1][3]

    def test_a_rotation_at_once_leaves_the_new_key_alone(self, home: Path, capsys: Output) -> None:
        first = ensure_signing_key(home)

        assert main(["signing-keys", "rotate", "--now"]) == 0

        (row,) = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
        assert (row[0] != first.id, row[1]) == (True, "signs")
        assert list(load_public_keys(home)) == [row[0]]

    @pytest.mark.parametrize("command", [["list"], ["rotate"], ["rotate", "--now"]])
    def test_without_a_key_it_says_where_it_looked(self, home: Path, capsys: Output, command: list[str]) -> None:
        assert_refused(main(["signing-keys", *command]), capsys, "AIDEVOS_HOME", str(home))
        assert not home.exists()


class TestOpenapi:
    @pytest.mark.parametrize("kind", ["openapi", "asyncapi"])
    def test_it_prints_what_the_running_gateway_says(
        self, home: Path, gateway: FakeGateway, capsys: Output, kind: str
    ) -> None:
        write_fleet(home, gateway.url)
        gateway.answers[f"GET /{kind}.json"] = 200, {"version": "3.1.0"}

        assert main([kind]) == 0
        assert capsys.readouterr().out == '{"version":"3.1.0"}\n'

    def test_without_a_fleet_it_describes_the_services_as_shipped(self, home: Path, capsys: Output) -> None:
        assert main(["openapi"]) == 0

        output = capsys.readouterr()
        document = json.loads(output.out)
        OpenAPIV31SpecValidator(document).validate()
        assert {"/users/{user_id}", "/durable-objects/counter:{id}/request"} <= document["paths"].keys()
        assert str(home) in output.err

    def test_without_services_it_says_where_they_would_be(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        monkeypatch.setattr(openapi, "PACKAGES", ("aidevos.nowhere",))

        assert main(["openapi"]) == 2
        assert "aidevos.nowhere" in capsys.readouterr().err

    def test_a_gateway_that_does_not_answer_is_status_1(
        self, home: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("aidevos.client.api.CONNECT_WITHIN", 0.1)
        write_fleet(home, "http://127.0.0.1:1")

        assert_refused(main(["openapi"]), capsys, "http://127.0.0.1:1", expected=1)


def named(given: Any) -> Any:
    """Return a service unchanged, and types as a list of names."""
    return given if isinstance(given, str) else [*given]


class TestServe:
    @pytest.fixture(autouse=True)
    def workplace(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.chdir(tmp_path)
        path = sys.path[:]
        (tmp_path / "mine.py").write_text(
            "from aidevos import BaseDurableObject, permission, query\n"
            "import msgspec\n"
            "class State(msgspec.Struct):\n    value: int = 0\n"
            "class Thing(BaseDurableObject[State], type='thing'):\n    '''A thing.'''\n"
            "    @query(allow=permission('thing:read'))\n    async def read(self) -> int:\n        return 1\n"
            "class Plain(BaseDurableObject[State]):\n    '''No type.'''\n"
            "number = 1\n"
        )
        (tmp_path / "bare.py").write_text(
            "from aidevos import BaseDurableObject, inject\n"
            "import msgspec\n"
            "class Pool: ...\n"
            "class State(msgspec.Struct):\n    value: int = 0\n"
            "class Shelf(BaseDurableObject[State], type='shelf'):\n    pool: Pool = inject()\n"
        )
        (tmp_path / "stocked.py").write_text(
            "from collections.abc import AsyncIterator\n"
            "from aidevos import Service, resource\n"
            "from bare import Pool, Shelf\n"
            "@resource\n"
            "async def pool() -> AsyncIterator[Pool]:\n    yield Pool()\n"
            "service = Service('events', types=[Shelf], resources=[pool])\n"
        )
        (tmp_path / "broken.py").write_text("1 / 0\n")
        (tmp_path / "needy.py").write_text("import no_such_library\n")
        (tmp_path / "unfinished.py").write_text("import json\nclass Thing(\n")
        (tmp_path / "reader.py").write_text("import json\njson.loads('')\n")
        (tmp_path / "bare_command.py").write_text(
            "from aidevos import BaseDurableObject, command\n"
            "import msgspec\n"
            "class State(msgspec.Struct):\n    value: int = 0\n"
            "class Door(BaseDurableObject[State], type='door'):\n    @command\n    async def open(self): ...\n"
        )
        (tmp_path / "taken.py").write_text(
            "from aidevos import BaseDurableObject\n"
            "import msgspec\n"
            "class State(msgspec.Struct):\n    value: int = 0\n"
            "class User(BaseDurableObject[State], type='user'): ...\n"
        )
        yield
        sys.path[:] = path
        for name in ("mine", "broken", "needy", "bare", "stocked", "reader", "bare_command", "taken"):
            sys.modules.pop(name, None)

    @pytest.mark.parametrize(
        ("path", "words"),
        [
            ("json", ["json"]),
            ("mine:", ["package.module:Class"]),
            (":Thing", ["package.module:Class"]),
            ("../mine:Thing", ["package.module:Class"]),
            ("nowhere.at:All", ["no module", "nowhere"]),
            ("needy:Thing", ["no module", "no_such_library", "needy.py, line 1"]),
            ("broken:Thing", ["ZeroDivisionError", "broken.py, line 1"]),
            ("unfinished:Thing", ["SyntaxError", "unfinished.py, line 2"]),
            ("reader:Thing", ["JSONDecodeError", "reader.py, line 2"]),
            ("bare_command:Door", ["Door.open", "@command(allow=", "bare_command.py, line 6"]),
            ("taken:User", ["User", "'user'", "user_management"]),
            ("mine:Nothing", ["has no Nothing"]),
            ("mine:number", ["neither a durable object class"]),
            ("mine:Plain", ["Plain", "type"]),
            ("mine:State", ["neither a durable object class"]),
            ("mine:BaseDurableObject", ["neither a durable object class"]),
        ],
    )
    def test_what_is_no_class_is_refused_in_a_line(
        self, home: Path, capsys: Output, path: str, words: list[str]
    ) -> None:
        assert_refused(main(["serve", path]), capsys, *words)

    @pytest.mark.parametrize(
        ("path", "words"), [("mine:Plain", ["Plain", "type"]), ("taken:User", ["user_management"])]
    )
    def test_a_type_that_can_not_be_served_gets_no_grant(
        self, home: Path, capsys: Output, path: str, words: list[str]
    ) -> None:
        assert_refused(main(["grant", path]), capsys, *words)

    def test_without_a_fleet_it_says_so(self, home: Path, capsys: Output) -> None:
        assert_refused(main(["serve", "mine:Thing"]), capsys, str(home))

    def test_it_hosts_the_classes_with_the_fleets_settings(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        hosted: list[Any] = []
        monkeypatch.setattr("aidevos.process.serving.run", lambda *args, **named: hosted.extend([*args, named]))
        monkeypatch.setattr("aidevos.process.fleet.fleet_settings", lambda home, *rest: (home, *map(named, rest)))

        assert main(["serve", "mine:Thing"]) == 0
        assert [type.__name__ for type in hosted[0].types] == ["Thing"]
        assert hosted[1:] == [(home, "objects", ["thing"]), {"name": "mine", "reports_health": False}]

    def test_it_has_the_name_that_it_is_given(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        hosted: list[Any] = []
        monkeypatch.setattr("aidevos.process.serving.run", lambda *args, **named: hosted.append(named["name"]))
        monkeypatch.setattr("aidevos.process.fleet.fleet_settings", lambda home, *rest: (home, *map(named, rest)))

        assert main(["serve", "--name", "my shop", "mine:Thing"]) == 0
        assert hosted == ["my shop"]
        assert_refused(main(["serve", "--name", "x" * 65, "mine:Thing"]), capsys, "--name")
        assert_refused(main(["serve", "--name", "a\nb", "mine:Thing"]), capsys, "--name")

    def test_a_grant_lets_the_service_host_the_types_with_their_permissions(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        granted: list[Any] = []
        monkeypatch.setattr("aidevos.process.fleet.fleet_settings", lambda _, *rest: granted.extend(map(named, rest)))

        assert main(["grant", "mine:Thing"]) == 0
        assert granted == ["objects", ["thing"]]
        assert load_registrations(home)["objects"].permissions == {"thing:read"}

    def test_it_finds_the_resources_of_the_module(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        hosted: list[Any] = []
        monkeypatch.setattr("aidevos.process.serving.run", lambda *args, **named: hosted.extend(args))
        monkeypatch.setattr("aidevos.process.fleet.fleet_settings", lambda home, *rest: (home, *map(named, rest)))

        assert main(["serve", "stocked:Shelf"]) == 0
        assert [each.name for each in hosted[0].resources] == ["pool"]

    def test_a_service_is_hosted_as_it_is_declared(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        hosted: list[Any] = []
        monkeypatch.setattr("aidevos.process.serving.run", lambda *args, **named: hosted.extend(args))
        monkeypatch.setattr("aidevos.process.fleet.fleet_settings", lambda home, *rest: (home, *map(named, rest)))

        assert main(["serve", "stocked:service"]) == 0
        assert hosted == [sys.modules["stocked"].service, (home, "events", ["shelf"])]

    def test_a_service_has_a_process_of_its_own(self, home: Path, capsys: Output) -> None:
        assert_refused(main(["serve", "mine:Thing", "stocked:service"]), capsys, "stocked:service", "separate")

    def test_a_resource_that_is_missing_is_named(self, home: Path, capsys: Output) -> None:
        assert_refused(main(["serve", "bare:Shelf"]), capsys, "Shelf", "Pool", "pool")

    @pytest.mark.parametrize(
        ("modules", "words"),
        [
            (["mine"], ["mine", "@task"]),
            (["nowhere.at"], ["no module", "nowhere"]),
            (["broken"], ["ZeroDivisionError", "broken.py, line 1"]),
            ([".mine"], ["imported"]),
        ],
    )
    def test_modules_without_handlers_are_refused_in_a_line(
        self, home: Path, capsys: Output, modules: list[str], words: list[str]
    ) -> None:
        assert_refused(main(["work", *modules]), capsys, *words)

    def test_it_works_with_the_handlers_of_the_modules(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        module = ModuleType("worked")

        @task("report")
        async def report(context: TaskContext, payload: dict[str, Any]) -> None: ...

        module.report = report  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "worked", module)
        ran: list[Any] = []
        monkeypatch.setattr("aidevos.process.serving.run", lambda *args, **named: ran.extend([*args, named]))
        monkeypatch.setattr("aidevos.process.fleet.fleet_settings", lambda home, service: (home, service))

        assert main(["work", "worked", "worked"]) == 0
        (work,) = ran[0].chores
        assert (list(work.handlers), work.group) == (["report"], "workers-worked")
        assert ran[1:] == [(home, "task_worker"), {"name": "worked", "reports_health": False}]


def test_without_a_command_it_shows_the_usage(capsys: Output) -> None:
    assert main([]) == 0

    assert "Usage: aidevos" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["nothing"], ["keys"], ["keys", "list", "--all"], ["tokens", "revoke"]])
def test_a_command_that_does_not_exist_is_refused(capsys: Output, arguments: list[str]) -> None:
    assert_refused(main(arguments), capsys, "--help")


@pytest.mark.parametrize("arguments", ["settings", "--help"])
def test_a_reader_that_has_enough_is_no_failure(arguments: str) -> None:
    command = f"{sys.executable} -P -m aidevos.cli.main {arguments} | true; exit ${{PIPESTATUS[0]}}"

    ended = subprocess.run(["bash", "-c", command], capture_output=True)

    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setenv("AIDEVOS_PORT", "none")

    assert_refused(main(["openapi"]), capsys, "AIDEVOS_PORT")


class TestSettings:
    def test_each_setting_is_shown_with_its_origin_and_no_secret_is(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        monkeypatch.setenv("AIDEVOS_IDLE_AFTER", "15m")
        (secret := home.parent / "secret").write_text("correct horse")
        monkeypatch.setenv("AIDEVOS_ADMIN_PASSWORD_FILE", str(secret))

        assert main(["settings", "--json"]) == 0
        found = {each["variable"]: (each["value"], each["origin"]) for each in json.loads(capsys.readouterr().out)}
        assert main(["settings"]) == 0
        lines = capsys.readouterr().out.splitlines()

        assert found["AIDEVOS_IDLE_AFTER"] == (900.0, "AIDEVOS_IDLE_AFTER")
        assert found["AIDEVOS_ADMIN_PASSWORD"] == ("(hidden)", "AIDEVOS_ADMIN_PASSWORD_FILE")
        assert found["AIDEVOS_SECRET_KEY"] == ("", "default")
        assert found["AIDEVOS_HOME"] == (str(home), "AIDEVOS_HOME")
        assert ["AIDEVOS_IDLE_AFTER", "900", "AIDEVOS_IDLE_AFTER"] in [line.split() for line in lines]
        assert len(lines) == len(found) + 1

    def test_a_setting_that_can_not_be_used_is_named(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        monkeypatch.setenv("AIDEVOS_IDLE_AFTR", "15m")

        assert_refused(main(["settings"]), capsys, "AIDEVOS_IDLE_AFTR", "AIDEVOS_IDLE_AFTER")
