"""One-time passwords: the vectors of RFC 6238, the app's QR code, and the validity of codes."""

from __future__ import annotations

import base64
import hashlib
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

import pyotp
import pytest
import segno
from hypothesis import given
from hypothesis import strategies as st

from aidevos.security.sealed import Sealer
from aidevos.settings import load
from services.authentication.mfa import MfaState, SecondFactor
from services.authentication.totp import MODULE_PIXELS, find_step, new_secret

DIGITS = b"1234567890" * 7
# RFC 6238 appendix B: the time, and the codes of SHA-1, SHA-256 and SHA-512.
VECTORS = [
    (59, "94287082", "46119246", "90693936"),
    (1111111109, "07081804", "68084774", "25091201"),
    (1111111111, "14050471", "67062674", "99943326"),
    (1234567890, "89005924", "91819424", "93441116"),
    (2000000000, "69279037", "90698825", "38618901"),
    (20000000000, "65353130", "77737706", "47863826"),
]
ALGORITHMS = [(hashlib.sha1, 20), (hashlib.sha256, 32), (hashlib.sha512, 64)]


def seed(size: int) -> str:
    return base64.b32encode(DIGITS[:size]).decode().rstrip("=")


@pytest.mark.parametrize(("at", "codes"), [(at, codes) for at, *codes in VECTORS])
def test_the_library_gives_the_codes_of_the_standard(at: int, codes: list[str]) -> None:
    for (digest, size), code in zip(ALGORITHMS, codes, strict=True):
        algorithm: Any = digest
        assert pyotp.TOTP(seed(size), digits=8, digest=algorithm).at(at) == code


@pytest.mark.parametrize(("at", "code"), [(at, code) for at, code, *_ in VECTORS])
def test_the_last_six_digits_of_the_standards_codes_are_good_at_their_time(at: int, code: str) -> None:
    assert find_step(seed(20), code[2:], at) == at // 30


@given(st.integers(0, 10**10), st.integers(-100, 100))
def test_a_code_is_good_within_one_step_of_drift(at: int, drift: int) -> None:
    secret = seed(20)
    now = at + 10_000
    step = now // 30 + drift
    near = [pyotp.TOTP(secret).generate_otp(now // 30 + offset) for offset in (-1, 0, 1)]
    otp = pyotp.TOTP(secret).generate_otp(step)

    assert find_step(secret, otp, now) == (now // 30 + near.index(otp) - 1 if otp in near else None)
    if abs(drift) <= 1:
        assert find_step(secret, otp, now) is not None


class Attempt(NamedTuple):
    """A code of the step that is `ahead` of now, tried `after` some seconds."""

    after: int
    ahead: int


ATTEMPTS = st.lists(st.builds(Attempt, st.integers(0, 70), st.integers(-3, 3)), max_size=30)


@given(ATTEMPTS)
def test_whatever_is_tried_each_step_passes_once_and_none_before_the_last(attempts: list[Attempt]) -> None:
    sealer = Sealer(load({"AIDEVOS_SECRET_KEY": base64.b64encode(bytes(32)).decode()}))
    state = MfaState(seed=sealer.seal(seed(20).encode(), "totp", "account"))
    now, last = 1_800_000_000, 0
    for request, attempt in enumerate(attempts):
        now += attempt.after
        step = now // 30 + attempt.ahead
        otp = pyotp.TOTP(seed(20)).generate_otp(step)
        passed = SecondFactor("account", state, sealer, str(request), now).use_otp(otp)

        assert passed == (abs(attempt.ahead) <= 1 and step > last)
        last = step if passed else last


def test_what_an_app_reads_holds_the_secret_and_no_other_algorithm() -> None:
    made = new_secret("Ada L.", "Acme & Co")
    uri = urlsplit(made.uri)

    assert (uri.scheme, uri.netloc, unquote(uri.path)) == ("otpauth", "totp", "/Acme & Co:Ada L.")
    assert parse_qs(uri.query) == {"secret": [made.secret], "issuer": ["Acme & Co"]}
    assert len(base64.b32decode(made.secret)) == 20
    assert new_secret("Ada L.", "Acme & Co").secret != made.secret


def test_the_qr_code_is_an_svg_document_of_the_uri() -> None:
    made = new_secret("ada", "AIDevOS")
    document = ElementTree.fromstring(made.qr_svg)

    assert document.tag == "{http://www.w3.org/2000/svg}svg"
    matrix = segno.make(made.uri, micro=False).matrix
    assert int(document.attrib["width"]) == (len(matrix) + 8) * MODULE_PIXELS
    assert dark_modules(document) == {(y, x) for y, row in enumerate(matrix) for x, module in enumerate(row) if module}


def dark_modules(document: ElementTree.Element) -> set[tuple[int, int]]:
    """Return row and column of each dark module in the path (`M`, `m`, `h`), without the quiet zone of 4."""
    path = document[0].attrib["d"].replace("M", " M").replace("m", " m").replace("h", " h")
    x, y, dark = 0.0, 0.0, set()
    for command in path.split(" M", 1)[1].replace(" m", "\nm").replace(" h", "\nh").split("\n"):
        kind, numbers = (command[0], command[1:]) if command[0] in "mh" else ("M", command)
        values = [float(number) for number in numbers.split()]
        if kind == "h":
            dark.update((int(y - 0.5) - 4, int(x) + step - 4) for step in range(int(values[0])))
            x += values[0]
        elif kind == "m":
            x, y = x + values[0], y + values[1]
        else:
            x, y = values
    return dark
