"""A process knows what is wrong with each of its parts, and since when."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from aidevos.observability.health import LATE, REMEMBER_LATE, Health


class World:
    """A process with two parts whose problems a test sets, and its clock."""

    def __init__(self, **options: Any) -> None:
        self.now = 1_800_000_000.0
        self.lease = self.store = ""
        self.health = Health(lambda: self.now)
        self.health.watch("lease", lambda: self.lease)
        self.health.watch("MongoDB", lambda: self.store, **options)

    def seen(self) -> list[tuple[str, str, str]]:
        return [(problem.part, problem.detail, problem.since[11:19]) for problem in self.health.problems()]


def test_a_problem_keeps_the_time_at_which_it_began() -> None:
    world = World()
    world.lease = "it has lapsed"
    first = world.seen()
    world.now += 30
    world.lease, world.store = "it was taken", "no answer"

    assert first == [("lease", "it has lapsed", "08:00:00")]
    assert world.seen() == [("lease", "it was taken", "08:00:00"), ("MongoDB", "no answer", "08:00:30")]


def test_a_problem_that_comes_back_begins_anew() -> None:
    world = World()
    world.lease = "it has lapsed"
    world.seen()
    world.lease = ""
    healed = world.seen()
    world.now += 60
    world.lease = "it has lapsed"

    assert healed == []
    assert world.seen() == [("lease", "it has lapsed", "08:01:00")]


def test_a_part_that_is_watched_anew_keeps_the_time_of_its_problem() -> None:
    world = World()
    world.lease = "it has lapsed"
    world.seen()
    world.now += 60
    world.health.watch("lease", lambda: "it has lapsed")

    assert world.seen() == [("lease", "it has lapsed", "08:00:00")]


def test_a_short_problem_is_not_reported_where_short_ones_are_normal() -> None:
    world = World(after=5.0)
    world.store = "no answer"
    at_once = world.seen()
    world.now += 5

    assert at_once == []
    assert world.seen() == [("MongoDB", "no answer", "08:00:00")]


def test_a_warning_leaves_the_process_ready() -> None:
    world = World(status="warn")
    world.store = "slow"
    warned = world.health.report("objects", 1)
    world.lease = "it has lapsed"
    failed = world.health.report("objects", 1)

    assert (warned.ok, warned.detail, [each.part for each in warned.problems]) == (True, "", ["MongoDB"])
    assert (failed.ok, failed.detail, len(failed.problems)) == (False, "it has lapsed", 2)


def test_an_event_loop_that_was_busy_is_reported_for_a_while() -> None:
    world = World()
    world.health._note_lateness(LATE)
    busy = world.seen()
    world.now += REMEMBER_LATE

    assert busy == [("event loop", "it didn't turn for 1.0 s", "08:00:00")]
    assert world.seen() == []


def test_the_beginning_and_the_end_of_a_problem_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world = World()
    world.lease = "it has lapsed"
    world.seen()
    world.seen()
    world.lease = ""
    world.seen()

    assert [record.message for record in caplog.records] == ["not well: lease: it has lapsed", "well again: lease"]
