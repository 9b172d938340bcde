"""Conditions on the command line, as filters of the HTTP API."""

from __future__ import annotations

import io
from typing import Any

import pytest

from aidevos.cli.conditions import parse_filter
from aidevos.cli.errors import CommandError


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("title=SICP", {"title": {"eq": "SICP"}}),
        ("title!=SICP", {"title": {"ne": "SICP"}}),
        ("price>10", {"price": {"gt": 10}}),
        ("price>=10.5", {"price": {"gte": 10.5}}),
        ("price<-10", {"price": {"lt": -10}}),
        ("price<=10", {"price": {"lte": 10}}),
        ("title^=The ", {"title": {"starts_with": "The"}}),
        ("tags*=new", {"tags": {"contains": "new"}}),
        ("address.city = Rome", {"address.city": {"eq": "Rome"}}),
        ("draft=true", {"draft": {"eq": True}}),
        ("draft=null", {"draft": {"eq": None}}),
        ('zip="08150"', {"zip": {"eq": "08150"}}),
        ("zip=08150", {"zip": {"eq": "08150"}}),
        ("title=", {"title": {"eq": ""}}),
        ("formula=a=b", {"formula": {"eq": "a=b"}}),
        ('arrow="=>"', {"arrow": {"eq": "=>"}}),
        ("not=1", {"\\not": {"eq": 1}}),
    ],
)
def test_a_condition_is_a_path_an_operator_and_a_value(condition: str, found: dict[str, Any]) -> None:
    assert parse_filter([condition]) == found


def test_conditions_on_one_path_must_all_hold() -> None:
    found = parse_filter(["price>=10", "price<20", "tags*=a", "tags*=b"])

    assert found == {
        "price": {"gte": 10, "lt": 20},
        "tags": {"contains": "a"},
        "and": [{"tags": {"contains": "b"}}],
    }


def test_a_filter_in_json_must_hold_too() -> None:
    found = parse_filter(["price>=10"], '{"or": [{"a": {"exists": true}}]}')

    assert found == {"price": {"gte": 10}, "and": [{"or": [{"a": {"exists": True}}]}]}


def test_a_filter_in_json_may_come_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"a": {"eq": 1}}')))

    assert parse_filter([], "-") == {"and": [{"a": {"eq": 1}}]}


def test_no_condition_is_no_filter() -> None:
    assert parse_filter([]) == {}


@pytest.mark.parametrize("condition", ["price", "=5", ">5", "", "price=>5", "price==5", "price=<5", "a!b=1"])
def test_what_is_no_condition_is_refused_with_the_operators(condition: str) -> None:
    with pytest.raises(CommandError, match=">="):
        parse_filter([condition])


@pytest.mark.parametrize("where", ["{", "[]", "5"])
def test_a_filter_that_is_no_object_of_json_is_refused(where: str) -> None:
    with pytest.raises(CommandError, match="--where"):
        parse_filter([], where)
