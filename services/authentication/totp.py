"""Time-based one-time passwords (RFC 6238) as authenticator apps generate them: SHA-1, 6 digits, 30 seconds."""

from __future__ import annotations

import io

import pyotp

from aidevos.contracts.authentication import TotpSecret

# Time steps by which a device's clock may be behind or ahead.
DRIFT = 1
MODULE_PIXELS = 4


def new_secret(username: str, issuer: str) -> TotpSecret:
    """Return a new secret of 160 bits, with its `otpauth` URI and a QR code of the URI as SVG."""
    secret = pyotp.random_base32()
    uri = pyotp.TOTP(secret).provisioning_uri(name=username, issuer_name=issuer)
    svg = io.BytesIO()
    # Imported here, because few logins are enrolled.
    import segno

    segno.make(uri, micro=False).save(svg, kind="svg", xmldecl=False, scale=MODULE_PIXELS)
    return TotpSecret(secret=secret, uri=uri, qr_svg=svg.getvalue().decode())


def find_step(secret: str, otp: str, now: float) -> int | None:
    """Return the time step of the code, counted from the epoch, or None if it matches no step near `now`."""
    try:
        return pyotp.TOTP(secret).verify_and_get_timecode(otp, for_time=now, valid_window=DRIFT)
    except pyotp.OTPVerificationError:
        return None
