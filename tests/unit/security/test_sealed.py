"""Sealed values: the contexts and keys that open them."""

from __future__ import annotations

import base64
import secrets
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aidevos.security.sealed import Sealer, SealError
from aidevos.settings import SettingsError, load

CONTEXT = st.lists(st.text(max_size=5), max_size=3).map(tuple)


def new_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def sealer(*keys: str) -> Sealer:
    return Sealer(load({"AIDEVOS_SECRET_KEY": ",".join(keys)}))


ONE = sealer(new_key())


@given(st.binary(max_size=100), CONTEXT, CONTEXT)
def test_a_value_opens_in_its_own_context_alone(value: bytes, context: tuple[str, ...], other: tuple[str, ...]) -> None:
    sealed = ONE.seal(value, *context)

    assert ONE.open(sealed, *context) == value
    if other != context:
        with pytest.raises(SealError):
            ONE.open(sealed, *other)


@given(st.binary(max_size=40), st.data())
def test_a_changed_value_does_not_open(value: bytes, data: st.DataObject) -> None:
    raw = bytearray(base64.urlsafe_b64decode(padded(ONE.seal(value))))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises(SealError):
        ONE.open(base64.urlsafe_b64encode(raw).decode().rstrip("="))


@given(st.text(max_size=60))
def test_no_other_text_opens(text: str) -> None:
    with pytest.raises(SealError):
        ONE.open(text)


def test_the_same_value_is_sealed_differently_each_time() -> None:
    assert ONE.seal(b"x") != ONE.seal(b"x")


def test_a_key_is_replaced_while_the_old_one_still_opens() -> None:
    old, new = new_key(), new_key()
    before = sealer(old).seal(b"seed")
    both = sealer(new, old)

    assert both.open(before) == b"seed"
    assert sealer(new).open(both.seal(b"seed")) == b"seed"
    with pytest.raises(SealError):
        sealer(new).open(before)


def test_without_a_setting_the_key_is_a_file_of_its_owner_alone(tmp_path: Path) -> None:
    settings = load({}, home=tmp_path)
    sealed = Sealer(settings).seal(b"seed")

    assert Sealer(settings).open(sealed) == b"seed"
    assert stat.S_IMODE((tmp_path / "keys" / "sealing.key").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text", ["tiny-secret", base64.b64encode(b"tiny-secret").decode(), pytest.param(f"{new_key()},", id="two keys")]
)
def test_a_key_that_cannot_be_used_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load({"AIDEVOS_SECRET_KEY": text})

    assert "AIDEVOS_SECRET_KEY" in str(refused.value)
    assert text[:8] not in str(refused.value)


def padded(text: str) -> str:
    return text + "=" * (-len(text) % 4)
