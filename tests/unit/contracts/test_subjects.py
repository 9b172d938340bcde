"""Names and IDs are the same in every language."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos.contracts import subjects
from aidevos.contracts.errors import Failure


@pytest.mark.parametrize(
    ("type", "name", "id"),
    [
        ("counter", "clicks", "clicks"),
        ("counter", "A-b_9", "A-b_9"),
        ("user", "ann@example.com", "3ac0fd3a707bf96c26c0928d486bfbccd5d4dbb0348d3c0063fcdadd2333c1d2"),
        ("counter", "ann@example.com", "7c819e87cd550ea8c6622aba81ad8e44011c42072105b6e70a07db33f28b3460"),
        ("user", "Zoë 😀", "f139bb4323d7284db92d52b25457761b900024d55967da677f2f9608b3a1429a"),
        ("user", "x" * 129, "647c9a5cb70e62528c6c421bfcf2173b82a695e801e8c1d021f00b98391ddad5"),
    ],
)
def test_a_name_becomes_the_id_of_the_published_vectors(type: str, name: str, id: str) -> None:
    assert subjects.id_from_name(type, name) == id


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256))
def test_every_name_becomes_a_valid_id_and_a_valid_id_is_its_own(name: str) -> None:
    id = subjects.id_from_name("user", name)
    assert subjects.is_id(id)
    assert id == subjects.id_from_name("user", name)
    assert (id == name) == subjects.is_id(name)


@pytest.mark.parametrize("name", ["", "é" * 513, "\ud800"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(Failure) as refused:
        subjects.id_from_name("user", name)
    assert (refused.value.code, refused.value.field) == ("invalid", "name")


def test_new_ids_are_valid_different_and_grow_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_800_000_000_000_000_000
    monkeypatch.setattr("time.time_ns", lambda: now)
    first, same = subjects.new_id(), subjects.new_id()
    now += 1_000_000
    assert first != same
    assert max(first, same) < subjects.new_id()
    assert all(subjects.is_id(id) and id[12] == "7" and id[16] in "89ab" for id in (first, same))


@pytest.mark.parametrize("object_id", ["", "counter", ":a", "counter:", "Counter:a", "counter:a b", "counter:a:b"])
def test_an_object_id_that_is_none_is_refused(object_id: str) -> None:
    with pytest.raises(Failure) as refused:
        subjects.split_object_id(object_id)
    assert (refused.value.code, refused.value.field) == ("invalid", "object_id")
