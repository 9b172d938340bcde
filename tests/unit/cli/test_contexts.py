"""Which fleet a command talks to, as whom, and how logins are kept."""

from __future__ import annotations

import asyncio
import io
import json
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aidevos.cli.contexts import Context, Contexts, changed_contexts, load_contexts
from aidevos.cli.logins import Login
from aidevos.cli.main import main
from aidevos.process.fleet import Fleet
from aidevos.security.keys import ensure_signing_key, load_public_keys
from aidevos.security.tokens import TokenVerifier
from aidevos.settings import load
from tests.support.fake_gateway import FakeGateway, Request, problem

Output = pytest.CaptureFixture[str]
ADA = {"username": "ada"}


def pair(name: str = "first", expires_in: int = 600) -> dict[str, Any]:
    """Return the answer to a login."""
    tokens = {"access_token": f"access-{name}", "refresh_token": f"refresh-{name}"}
    return {**tokens, "expires_in": expires_in, "user": ADA, "must_enrol": False}


def keep(**contexts: Context) -> None:
    """Store contexts, of which the first is in use."""
    with changed_contexts() as stored:
        stored.contexts.update(contexts)
        stored.current = next(iter(contexts))


def type_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def credential_of(request: Request) -> str:
    return request.headers.get("authorization", "")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gateway: FakeGateway) -> Path:
    """Make the home of a fleet that is up, whose gateway answers as the test says."""
    folder = tmp_path / "home"
    monkeypatch.setenv("AIDEVOS_HOME", str(folder))
    ensure_signing_key(folder)
    texts = {name: "x" for name in Fleet.__struct_fields__ if name != "processes"}
    urls = {"gateway_url": gateway.url, "public_url": "https://api.example.org"}
    (folder / "fleet.json").write_bytes(msgspec.json.encode({**texts, **urls, "processes": []}))
    return folder


@pytest.fixture(autouse=True)
def hosts(gateway: FakeGateway) -> None:
    gateway.answers["GET /fleet"] = 200, {"hosts": []}


class TestTarget:
    def test_without_a_login_the_fleet_of_this_machine_is_called_as_its_administrator(
        self, home: Path, gateway: FakeGateway
    ) -> None:
        assert main(["fleet", "--json"]) == 0

        request = gateway.requests[-1]
        verifier = TokenVerifier(lambda: load_public_keys(home), "https://api.example.org")
        caller = verifier.verify(credential_of(request))
        assert (caller.subject, caller.has("anything")) == ("service:cli", True)
        assert caller.expires_at < time.time() + 70

    def test_a_context_in_use_goes_before_the_fleet_of_this_machine(self, home: Path, gateway: FakeGateway) -> None:
        keep(shop=Context(url=gateway.url, access_token="stored"))

        assert main(["fleet", "--json"]) == 0
        assert main(["--context", "local", "fleet", "--json"]) == 0

        assert credential_of(gateway.requests[0]) == "Bearer stored"
        assert credential_of(gateway.requests[1]) != "Bearer stored"

    def test_the_environment_goes_before_the_context_in_use(
        self, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keep(other=Context(url="http://127.0.0.1:9", access_token="stored"))
        monkeypatch.setenv("AIDEVOS_URL", f"{gateway.url}/")
        monkeypatch.setenv("AIDEVOS_TOKEN", "of-ci")

        assert main(["fleet", "--json"]) == 0

        assert [credential_of(request) for request in gateway.requests] == ["Bearer of-ci"]

    def test_a_named_context_goes_before_the_environment_and_its_token(
        self, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keep(shop=Context(url=gateway.url, access_token="stored"))
        monkeypatch.setenv("AIDEVOS_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("AIDEVOS_TOKEN", "of-ci")

        assert main(["--context", "shop", "fleet", "--json"]) == 0

        assert credential_of(gateway.requests[0]) == "Bearer stored"

    def test_a_url_without_a_token_has_the_login_of_the_context_with_this_url(
        self, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keep(other=Context(url="http://127.0.0.1:9"), shop=Context(url=gateway.url, access_token="stored"))
        monkeypatch.setenv("AIDEVOS_URL", gateway.url)

        assert main(["fleet", "--json"]) == 0

        assert credential_of(gateway.requests[0]) == "Bearer stored"

    def test_without_any_fleet_it_says_what_to_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        monkeypatch.setenv("AIDEVOS_HOME", str(tmp_path))

        assert main(["objects", "list"]) == 1

        error = capsys.readouterr().err
        assert all(word in error for word in (str(tmp_path), "aidevos up", "AIDEVOS_HOME", "aidevos login URL"))

    def test_the_variables_are_not_taken_for_misspelt_settings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AIDEVOS_URL", "AIDEVOS_TOKEN", "AIDEVOS_CONTEXT"):
            monkeypatch.setenv(name, "x")

        load()

    def test_ps_shows_the_hosts_of_a_fleet_elsewhere(self, gateway: FakeGateway, capsys: Output) -> None:
        host = {"service": "objects", "replica": 0, "state": "serving", "since": "", "version": "1", "detail": ""}
        gateway.answers["GET /fleet"] = 200, {"hosts": [{**host, "partitions": {"a": [1]}, "objects": 7, "memory": 0}]}
        keep(shop=Context(url=gateway.url))

        assert main(["ps"]) == 0

        assert "objects-0" in capsys.readouterr().out


class TestLogin:
    def test_a_login_is_stored_for_the_user_alone_and_used_from_then_on(
        self, gateway: FakeGateway, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        gateway.answers["POST /auth/login"] = 200, pair()
        type_in(monkeypatch, "correct horse\n")

        assert main(["login", gateway.url, "-u", "ada", "--password-stdin", "--name", "shop"]) == 0
        assert main(["fleet", "--json"]) == 0

        login, asked = gateway.requests
        assert login.body == {"username": "ada", "password": "correct horse"}
        assert credential_of(login) == ""
        assert credential_of(asked) == "Bearer access-first"
        assert stat.S_IMODE((config / "contexts.json").stat().st_mode) == 0o600
        assert stat.S_IMODE(config.stat().st_mode) == 0o700
        assert "correct horse" not in (config / "contexts.json").read_text()
        assert "as ada" in capsys.readouterr().out

    def test_the_context_is_named_after_the_host_or_keeps_its_name(
        self, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gateway.answers["POST /auth/login"] = 200, pair()
        for options in ([], ["--name", "shop"], []):
            type_in(monkeypatch, "x\n")
            assert main(["login", f"{gateway.url}/", "-u", "ada", "--password-stdin", *options]) == 0

        stored = load_contexts()
        assert (stored.contexts.keys(), stored.current) == ({gateway.url.removeprefix("http://"), "shop"}, "shop")

    def test_a_second_factor_that_nobody_can_be_asked_for_is_an_error(
        self, gateway: FakeGateway, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        gateway.answers["POST /auth/login"] = problem(401, "mfa-required", "a code is needed", challenge="a.b")
        type_in(monkeypatch, "x\n")

        assert main(["login", gateway.url, "-u", "ada", "--password-stdin"]) == 4
        assert not config.exists()

        gateway.answers["POST /auth/login"] = 200, pair()
        type_in(monkeypatch, "x\n")
        assert main(["login", gateway.url, "-u", "ada", "--password-stdin", "--otp", "123456"]) == 0
        assert gateway.requests[-1].body["otp"] == "123456"

    @pytest.mark.parametrize(("code", "kind"), [("123456", "otp"), ("abcd-efgh", "recovery_code")])
    def test_a_second_factor_is_asked_for_on_a_terminal(
        self, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, code: str, kind: str
    ) -> None:
        gateway.answers["POST /auth/login"] = problem(401, "mfa-required", "a code is needed", challenge="a.b")
        gateway.answers["POST /auth/mfa/verify"] = 200, pair()
        answers = iter(["correct horse", code])
        monkeypatch.setattr("aidevos.cli.login.prompt", lambda *_, **options: next(answers))
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)

        assert main(["login", gateway.url, "-u", "ada"]) == 0

        assert gateway.requests[-1].body == {"challenge": "a.b", kind: code}

    def test_a_token_is_taken_from_standard_input_and_tried(
        self, gateway: FakeGateway, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        type_in(monkeypatch, "adk_x\n")
        gateway.answers["GET /auth/me"] = problem(401, "unauthenticated", "the key is not valid")
        assert main(["login", gateway.url, "--with-token"]) == 4
        assert not config.exists()

        type_in(monkeypatch, "adk_x\n")
        gateway.answers["GET /auth/me"] = 200, {}
        assert main(["login", gateway.url, "--with-token"]) == 0

        assert load_contexts().contexts.popitem()[1].access_token == "adk_x"

    @pytest.mark.parametrize(
        "url", ["ftp://x", "https://", "https://a:b@x", "https://x?y=1", "http://[", "https://x:y"]
    )
    def test_what_is_no_url_of_a_fleet_is_refused(self, url: str, capsys: Output) -> None:
        assert main(["login", url, "--with-token"]) == 2
        assert capsys.readouterr().err.startswith("aidevos: ")

    def test_a_logout_ends_the_session_and_forgets_the_credentials(self, gateway: FakeGateway) -> None:
        gateway.answers["POST /auth/logout"] = 204, None
        keep(shop=Context(url=gateway.url, access_token="a", refresh_token="r", expires_at=time.time() + 600))

        assert main(["logout"]) == 0

        assert credential_of(gateway.requests[0]) == "Bearer a"
        assert load_contexts() == Contexts("", {"shop": Context(url=gateway.url)})

    def test_a_logout_forgets_the_credentials_even_if_the_fleet_is_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("aidevos.client.api.CONNECT_WITHIN", 0.1)
        context = Context(url="http://127.0.0.1:9", access_token="a", refresh_token="r", expires_at=time.time() + 600)
        keep(shop=context)

        assert main(["logout", "shop"]) == 1
        assert load_contexts().contexts["shop"].refresh_token == ""


class TestRenewal:
    def test_an_access_token_that_ends_is_renewed_once_by_commands_at_the_same_time(self, gateway: FakeGateway) -> None:
        gateway.answers["POST /auth/refresh"] = 200, pair("second")
        keep(shop=Context(url=gateway.url, access_token="old", refresh_token="r", expires_at=time.time() + 5))
        found: list[str] = []
        threads = [threading.Thread(target=lambda: found.append(asyncio.run(Login("shop")()))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert found == ["access-second"] * 4
        assert [request.body for request in gateway.requests] == [{"refresh_token": "r"}]
        assert load_contexts().contexts["shop"].refresh_token == "refresh-second"

    def test_a_token_that_the_fleet_refuses_is_renewed(self, gateway: FakeGateway) -> None:
        def hosts(request: Request) -> Any:
            fresh = credential_of(request) == "Bearer access-second"
            return (200, {"hosts": []}) if fresh else problem(401, "unauthenticated", "the token was revoked")

        gateway.answers |= {"GET /fleet": hosts, "POST /auth/refresh": (200, pair("second"))}
        keep(shop=Context(url=gateway.url, access_token="old", refresh_token="r", expires_at=time.time() + 600))

        assert main(["fleet", "--json"]) == 0

    def test_a_login_that_has_ended_says_how_to_log_in_again(self, gateway: FakeGateway, capsys: Output) -> None:
        gateway.answers["POST /auth/refresh"] = problem(401, "unauthenticated", "the session has ended")
        keep(shop=Context(url=gateway.url, access_token="old", refresh_token="r"))

        assert main(["fleet"]) == 4
        assert f"aidevos login {gateway.url}" in capsys.readouterr().err

    def test_token_prints_a_token_that_is_valid_now(self, gateway: FakeGateway, capsys: Output) -> None:
        gateway.answers["POST /auth/refresh"] = 200, pair("second")
        keep(shop=Context(url=gateway.url, access_token="old", refresh_token="r"))

        assert main(["token"]) == 0
        assert capsys.readouterr().out == "access-second\n"
        assert main(["token", "--role", "admin"]) == 2


class TestContexts:
    def test_the_list_shows_contexts_without_credentials(self, capsys: Output) -> None:
        keep(shop=Context(url="https://a", username="ada", access_token="secret", refresh_token="secret"))

        assert main(["context", "list", "--json"]) == 0

        output = capsys.readouterr().out
        assert "secret" not in output
        assert [(row["name"], row["in_use"]) for row in json.loads(output)] == [("local", False), ("shop", True)]

    def test_a_context_is_chosen_shown_and_removed(self, capsys: Output) -> None:
        keep(shop=Context(url="https://a", username="ada"), test=Context(url="https://b"))

        assert main(["context", "use", "test"]) == 0
        assert main(["context", "show", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"context": "test", "url": "https://b", "user": ""}
        assert main(["context", "remove", "test"]) == 0
        assert load_contexts() == Contexts("", {"shop": Context(url="https://a", username="ada")})

    @pytest.mark.parametrize("command", [["context", "use"], ["context", "remove"], ["logout"]])
    def test_an_unknown_context_is_named(self, command: list[str], capsys: Output) -> None:
        assert main([*command, "nowhere"]) == 2
        assert "'nowhere'" in capsys.readouterr().err

    def test_a_file_that_can_not_be_read_is_named(self, config: Path, capsys: Output) -> None:
        config.mkdir(parents=True)
        (config / "contexts.json").write_text("{")

        assert main(["context", "list"]) == 2
        assert "contexts.json" in capsys.readouterr().err
