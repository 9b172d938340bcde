"""What the commands for users, keys, data and the like share: changes, secrets and times."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest

from aidevos.cli.errors import CommandError
from aidevos.cli.listing import given, parse_moment, parse_past, parse_rate, path_of, read_new_secret


def test_a_path_keeps_its_parts_apart() -> None:
    assert path_of("users", "a/b?c", "x y") == "/users/a%2Fb%3Fc/x%20y"


def test_values_that_were_given_stay() -> None:
    assert given(a=None, b="", c=[], d=0, e=False, f="x") == {"d": 0, "e": False, "f": "x"}


@pytest.mark.parametrize("text", ["2026-12-24T18:00:00Z", "2026-12-24T18:00:00+01:00"])
def test_a_time_with_an_offset_stays(text: str) -> None:
    assert datetime.fromisoformat(parse_moment(text, "--expires")) == datetime.fromisoformat(text)


def test_a_time_without_an_offset_is_that_of_this_machine() -> None:
    found = datetime.fromisoformat(parse_moment("2026-12-24", "--expires"))

    assert found == datetime(2026, 12, 24).astimezone()


def test_a_span_counts_from_now() -> None:
    later = datetime.fromisoformat(parse_moment("1h30m", "--expires"))
    earlier = datetime.fromisoformat(parse_past("2h", "--before"))

    assert later - earlier == pytest.approx(timedelta(hours=3.5), abs=timedelta(seconds=5))
    assert earlier == pytest.approx(datetime.now(UTC) - timedelta(hours=2), abs=timedelta(seconds=5))


@pytest.mark.parametrize("text", ["soon", "", "2026-13-01", "99999999999d", "-5m"])
def test_what_is_no_time_is_refused_by_its_option(text: str) -> None:
    with pytest.raises(CommandError, match="--expires"):
        parse_moment(text, "--expires")


def test_a_rate_is_requests_per_time() -> None:
    assert parse_rate("100/1m", "--rate") == {"rate": 100, "window": 60.0}


@pytest.mark.parametrize("text", ["100", "100/", "/1m", "x/1m", "1.5/1m", "100/soon", "-1/1m"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="--rate"):
        parse_rate(text, "--rate")


class TestSecrets:
    def test_without_a_terminal_a_secret_is_the_first_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(" two words \r\nmore\n"))

        assert read_new_secret("Password") == " two words "

    def test_an_empty_secret_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(""))

        with pytest.raises(CommandError, match="no password"):
            read_new_secret("Password")

    @pytest.mark.parametrize(("second", "is_taken"), [("harbour", True), ("harbor", False)])
    def test_on_a_terminal_it_is_asked_for_twice(
        self, monkeypatch: pytest.MonkeyPatch, second: str, is_taken: bool
    ) -> None:
        entered = iter(["harbour", second])
        monkeypatch.setattr("sys.stdin.isatty", lambda: True)
        monkeypatch.setattr("aidevos.cli.listing.getpass", lambda prompt: next(entered))

        if is_taken:
            assert read_new_secret("Password") == "harbour"
        else:
            with pytest.raises(CommandError, match="differ"):
                read_new_secret("Password")
