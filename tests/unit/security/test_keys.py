"""Signing keys: their lives, their files, and concurrent readers."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import stat
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from aidevos.contracts.authentication import CLOCK_MARGIN, TOKEN_LIFETIME
from aidevos.contracts.errors import Failure
from aidevos.security import key_ring, keys
from aidevos.security.key_ring import LONGEST_GRACE, Ring, maintain, retirements, signer
from aidevos.security.keys import SigningKeys, ensure_signing_key, load_public_keys, load_ring
from aidevos.security.tokens import RELOAD_EVERY, TokenIssuer, TokenVerifier

ISSUER = "http://fleet.test"
AGE, NOTICE = 1000.0, 100.0
START = 1_000_000.0
SWITCH = START + AGE + NOTICE


class Clock:
    """A verifier's clock, moved by hand."""

    def __init__(self) -> None:
        self.moment = time.time()

    def __call__(self) -> float:
        return self.moment


class Crash(BaseException):
    """Raised where the process ends."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    ensure_signing_key(tmp_path)
    return tmp_path


def verifier(home: Path, now: Callable[[], float] = time.time) -> TokenVerifier:
    return TokenVerifier(lambda: load_public_keys(home), ISSUER, now)


def token(home: Path) -> str:
    return "Bearer " + TokenIssuer(SigningKeys(home), ISSUER).issue("ada")


def aged_ring(*moments: float) -> Ring:
    """Return a ring that was maintained at these times."""
    ring = key_ring.new_ring("first", START)
    for moment in moments:
        ring = maintain(ring, moment, AGE, NOTICE)
    return ring


def simultaneous_processes() -> ProcessPoolExecutor:
    """Return a pool of processes that all begin at once."""
    context = multiprocessing.get_context("fork")
    return ProcessPoolExecutor(4, context, initializer=context.Barrier(4).wait)


def make_due(home: Path) -> None:
    """Let the waiting key sign from now on."""
    first, second = load_ring(home)
    rewritten = (first, key_ring.msgspec.structs.replace(second, signs_from=time.time()))
    keys.write_secret(home / "keys" / keys.RING, key_ring.msgspec.json.encode(rewritten))


class TestLives:
    def test_a_key_has_a_successor_at_its_age_and_signs_until_that_does(self) -> None:
        young, old = aged_ring(START + AGE - 1), aged_ring(START + AGE)

        assert len(young) == 1
        assert [key.cause for key in old] == ["first", "age"]
        assert retirements(old) == [SWITCH, None]
        assert signer(old, SWITCH - 1) == old[0]
        assert signer(old, SWITCH) == old[1]

    def test_no_second_key_is_made_while_one_waits_to_sign(self) -> None:
        ring = aged_ring(START + AGE)

        assert key_ring.rotate(ring, "command", SWITCH - 1, NOTICE) == ring
        assert len(key_ring.rotate(ring, "command", SWITCH, NOTICE)) == 3

    def test_a_private_half_goes_when_no_repeat_can_ask_for_it(self) -> None:
        end = SWITCH + LONGEST_GRACE + CLOCK_MARGIN

        assert [bool(key.private) for key in aged_ring(START + AGE, end - 1)] == [True, True]
        assert [bool(key.private) for key in aged_ring(START + AGE, end)] == [False, True]

    def test_a_public_half_goes_when_the_last_token_has_expired(self) -> None:
        ring = aged_ring(START + AGE)
        end = SWITCH + TOKEN_LIFETIME + CLOCK_MARGIN

        assert len(maintain(ring, end - 1, 2 * AGE + NOTICE, NOTICE)) == 2
        assert maintain(ring, end, 2 * AGE + NOTICE, NOTICE) == ring[1:]

    def test_a_token_that_lives_longer_keeps_its_key(self) -> None:
        ring = aged_ring(START + AGE)
        ring = key_ring.keep_until(ring, ring[0].id, START + 10 * AGE)
        ring = key_ring.keep_until(ring, ring[0].id, START)

        assert ring[0].id in [key.id for key in maintain(ring, START + 10 * AGE, AGE, NOTICE)]
        assert ring[0].id not in [key.id for key in maintain(ring, START + 10 * AGE + CLOCK_MARGIN, AGE, NOTICE)]

    def test_whoever_asks_for_a_key_that_is_gone_gets_the_next(self) -> None:
        ring = aged_ring(START + AGE, SWITCH + LONGEST_GRACE + CLOCK_MARGIN)

        assert signer(ring, START) == ring[1]


class TestFiles:
    def test_they_are_readable_by_their_owner_alone(self, home: Path) -> None:
        keys.rotate(home, NOTICE)
        files = [*(home / "keys").iterdir(), *(home / "public").iterdir()]

        assert {file.name for file in files} == {"signing.json", "jwks.json", "lock"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}

    def test_the_key_set_shows_whatever_verifies_and_no_private_half(self, home: Path) -> None:
        ring = keys.rotate(home, NOTICE)

        assert list(load_public_keys(home)) == [key.id for key in ring]
        assert all(key.private not in keys.read_public_keys(home).decode() for key in ring)

    def test_nothing_is_written_where_nothing_changes(self, home: Path) -> None:
        before = [file.stat().st_mtime_ns for file in sorted(home.glob("*/*"))]
        ensure_signing_key(home)
        keys.maintain(home, AGE, NOTICE)

        assert [file.stat().st_mtime_ns for file in sorted(home.glob("*/*"))] == before

    @pytest.mark.parametrize("change", ["first", "rotate", "emergency"])
    @pytest.mark.parametrize("writes", [0, 1, 2, 3])
    @pytest.mark.parametrize("written", [False, True])
    def test_a_crash_at_any_step_leaves_a_fleet_that_signs_and_verifies_and_the_next_look_finishes_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, writes: int, written: bool
    ) -> None:
        if change != "first":
            ensure_signing_key(tmp_path)
        self.crash_at(monkeypatch, writes, written)
        with contextlib.suppress(Crash):
            {
                "first": lambda: ensure_signing_key(tmp_path),
                "rotate": lambda: keys.rotate(tmp_path, NOTICE),
                "emergency": lambda: keys.replace_at_once(tmp_path),
            }[change]()
        monkeypatch.undo()

        if (tmp_path / "keys" / keys.RING).exists():
            verifier(tmp_path).verify(token(tmp_path))
        else:
            ensure_signing_key(tmp_path)
        ring = keys.maintain(tmp_path, AGE, NOTICE)

        assert list(load_public_keys(tmp_path)) == [key.id for key in ring]
        assert not list((tmp_path / "keys").glob(".signing.json.*"))
        verifier(tmp_path).verify(token(tmp_path))

    def crash_at(self, monkeypatch: pytest.MonkeyPatch, writes: int, written: bool) -> None:
        """End the process at a write, before or after the file is replaced."""
        done = 0

        def replace(source: Path, target: Path) -> None:
            nonlocal done
            done += 1
            if done > writes:
                if written:
                    os.rename(source, target)
                raise Crash
            os.rename(source, target)

        monkeypatch.setattr(keys.os, "replace", replace)

    def test_rotations_at_once_make_one_key_and_lose_none(self, home: Path) -> None:
        with simultaneous_processes() as processes:
            rings = list(processes.map(keys.rotate, [home] * 16, [NOTICE] * 16))

        assert len(set(rings)) == 1
        assert load_ring(home) == rings[0]
        assert len(rings[0]) == 2

    def test_first_starts_at_once_agree_on_one_key(self, tmp_path: Path) -> None:
        with simultaneous_processes() as processes:
            made = list(processes.map(_ensured, [tmp_path] * 16))

        assert set(made) == {load_ring(tmp_path)[0].id}

    def test_replacements_at_once_leave_one_key_that_verifies(self, home: Path) -> None:
        with simultaneous_processes() as processes:
            rings = list(processes.map(keys.replace_at_once, [home] * 8))

        assert len({ring[0].id for ring in rings}) == 8
        assert load_ring(home) in rings
        verifier(home).verify(token(home))


class TestFollowing:
    def test_an_issuer_signs_with_the_new_key_from_its_moment_on(self, home: Path) -> None:
        issuer = SigningKeys(home)
        first, second = keys.rotate(home, NOTICE)
        switch = second.signs_from

        assert issuer.at(switch - 0.1).id == first.id
        assert issuer.at(switch).id == second.id

    def test_a_token_of_before_is_the_same_again_afterwards(self, home: Path) -> None:
        issuer, before = TokenIssuer(SigningKeys(home), ISSUER), time.time() - 5
        made = issuer.issue("ada", issued_at=before, id="x")
        keys.rotate(home, NOTICE)
        make_due(home)

        assert issuer.issue("ada", issued_at=before, id="x") == made

    def test_a_verifier_takes_tokens_of_the_old_and_the_new_key(self, home: Path) -> None:
        checked = verifier(home)
        old = token(home)
        keys.rotate(home, NOTICE)
        make_due(home)
        new = token(home)

        for each in (old, new, old):
            assert checked.verify(each).subject == "ada"

    def test_a_dropped_keys_tokens_are_dead_within_a_second_also_verified_ones(self, home: Path) -> None:
        clock = Clock()
        checked = verifier(home, clock)
        old = token(home)
        checked.verify(old)
        keys.replace_at_once(home)

        assert checked.verify(old).subject == "ada"
        clock.moment += RELOAD_EVERY
        with pytest.raises(Failure):
            checked.verify(old)
        checked.verify(token(home))

    def test_a_new_keys_token_is_taken_at_once(self, home: Path) -> None:
        checked = verifier(home, Clock())
        for _ in range(3):
            keys.replace_at_once(home)

            assert checked.verify(token(home)).subject == "ada"

    def test_a_verifier_outlives_a_key_set_that_cannot_be_read(self, home: Path) -> None:
        clock = Clock()
        checked = verifier(home, clock)
        shown = token(home)
        (home / "public" / "jwks.json").write_text("{")
        clock.moment += RELOAD_EVERY

        assert checked.verify(shown).subject == "ada"


def _ensured(home: Path) -> str:
    return ensure_signing_key(home).id
