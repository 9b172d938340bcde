"""Time-based one-time passwords (RFC 6238) as authenticator apps make them: SHA-1, 6 digits, 30 seconds."""

from __future__ import annotations

import io

import pyotp
import segno

from aidevos.contracts.authentication import TotpSecret

# Steps that a device's clock may be behind or ahead.
DRIFT = 1
MODULE_PIXELS = 4


def new_secret(username: str, issuer: str) -> TotpSecret:
    """A secret of 160 bits, with what an app reads it from."""
    secret = pyotp.random_base32()
    uri = pyotp.TOTP(secret).provisioning_uri(name=username, issuer_name=issuer)
    svg = io.BytesIO()
    segno.make(uri, micro=False).save(svg, kind="svg", xmldecl=False, scale=MODULE_PIXELS)
    return TotpSecret(secret=secret, uri=uri, qr_svg=svg.getvalue().decode())


def step_of(secret: str, otp: str, now: float) -> int | None:
    """The step whose code this is, in steps since the epoch; None for a code of no step near `now`."""
    try:
        return pyotp.TOTP(secret).verify_and_get_timecode(otp, for_time=now, valid_window=DRIFT)
    except pyotp.OTPVerificationError:
        return None
