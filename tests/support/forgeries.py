"""Forged tokens that must be refused, each derived from a good one by one trick (RFC 8725, RFC 9068)."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from aidevos.security.key_ring import Key, SigningKey
from aidevos.security.tokens import AUDIENCE, TOKEN_LIMIT, TYPE

HOUR = 3600
STRANGER = Ed25519PrivateKey.generate()
# The order of the curve's group: a verifier without a range check accepts S + L in place of S.
L = 2**252 + 27742317777372353535851937790883648493
DROPPED = object()

Sign = Callable[[bytes], bytes]


class Target(NamedTuple):
    """A fleet: its key, and the issuer in its tokens."""

    key: SigningKey
    issuer: str

    @property
    def header(self) -> dict[str, Any]:
        return {"alg": "EdDSA", "kid": self.key.id, "typ": TYPE}

    @property
    def claims(self) -> dict[str, Any]:
        now = int(time.time())
        return {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": "tester",
            "client_id": AUDIENCE,
            "jti": "j",
            "iat": now,
            "exp": now + HOUR,
            "roles": ["admin"],
            "permissions": ["objects:request"],
        }

    @property
    def public(self) -> bytes:
        return self.key.private.public_key().public_bytes_raw()


def segment(part: bytes | dict[str, Any]) -> bytes:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def token(header: bytes | dict[str, Any], claims: bytes | dict[str, Any], sign: Sign) -> str:
    signed = segment(header) + b"." + segment(claims)
    return (signed + b"." + segment(sign(signed))).decode()


def good(target: Target) -> str:
    return token(target.header, target.claims, target.key.private.sign)


def _changed(members: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (members | changes).items() if value is not DROPPED}


def _claims(**changes: Any) -> Callable[[Target], str]:
    """Forge a token with other claims, signed by the fleet itself."""
    return lambda target: token(target.header, _changed(target.claims, changes), target.key.private.sign)


def _raw_claim(name: str, text: str) -> Callable[[Target], str]:
    """Forge a token with a claim that no JSON library would write, signed by the fleet itself."""

    def forge(target: Target) -> str:
        others = json.dumps(_changed(target.claims, {name: DROPPED}))
        return token(target.header, f'{others[:-1]}, "{name}": {text}}}'.encode(), target.key.private.sign)

    return forge


def _header(**changes: Any) -> Callable[[Target], str]:
    """Forge a token with another header, signed by the fleet itself."""
    return lambda target: token(_changed(target.header, changes), target.claims, target.key.private.sign)


def _stranger(**changes: Any) -> Callable[[Target], str]:
    """Forge a token that is signed with a foreign key."""
    return lambda target: token(_changed(target.header, changes), target.claims, STRANGER.sign)


def _unsigned(alg: str) -> Callable[[Target], str]:
    return lambda target: token(target.header | {"alg": alg}, target.claims, lambda _: b"")


def _hmac(alg: str, secret: Callable[[Target], bytes]) -> Callable[[Target], str]:
    """Forge a token whose HMAC secret is the public key."""
    digest = "sha" + alg.removeprefix("HS")
    return lambda target: token(
        target.header | {"alg": alg}, target.claims, lambda signed: hmac.digest(secret(target), signed, digest)
    )


def _pem(target: Target) -> bytes:
    return target.key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _der(target: Target) -> bytes:
    return target.key.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _jwk(public: bytes, kid: str) -> dict[str, str]:
    return Key(id=kid, public=segment(public).decode(), private="", cause="first", made_at=0, signs_from=0).jwk


def _strangers_jwk(kid: str) -> dict[str, str]:
    return _jwk(STRANGER.public_key().public_bytes_raw(), kid)


def _cut(cut: Callable[[list[str]], list[str]]) -> Callable[[Target], str]:
    """Rearrange the segments of a good token."""
    return lambda target: ".".join(cut(good(target).split(".")))


def _signature(change: Callable[[bytes], bytes]) -> Callable[[Target], str]:
    return lambda target: token(target.header, target.claims, lambda signed: change(target.key.private.sign(signed)))


def _greater(signature: bytes) -> bytes:
    return signature[:32] + (int.from_bytes(signature[32:], "little") + L).to_bytes(32, "little")


def _at(seconds: float) -> int:
    return int(time.time() + seconds)


_SECRETS: dict[str, Callable[[Target], bytes]] = {
    "pem": _pem,
    "pem without its last newline": lambda target: _pem(target).strip(),
    "der": _der,
    "raw": lambda target: target.public,
    "x": lambda target: segment(target.public),
    "jwk": lambda target: json.dumps(_jwk(target.public, target.key.id)).encode(),
    "compact jwk": lambda target: json.dumps(_jwk(target.public, target.key.id), separators=(",", ":")).encode(),
    "nothing": lambda _: b"",
}
_CLAIMS = ("iss", "aud", "sub", "jti", "iat", "exp", "client_id", "roles", "permissions")

FORGERIES: dict[str, Callable[[Target], str]] = {
    **{f"alg {alg}": _unsigned(alg) for alg in ("none", "None", "NONE", "nOnE", "")},
    "alg none with a good signature": _header(alg="none"),
    "no alg": _header(alg=DROPPED),
    **{f"alg {alg} with a good signature": _header(alg=alg) for alg in ("ES256", "RS256", "PS256", "Ed25519", "eddsa")},
    **{
        f"{alg} with the public key as {name}": _hmac(alg, secret)
        for alg in ("HS256", "HS384", "HS512")
        for name, secret in _SECRETS.items()
    },
    "foreign key": _stranger(),
    "foreign key and kid": _stranger(kid="another"),
    "no kid": _header(kid=DROPPED),
    **{
        f"kid {kid!r}": _header(kid=kid)
        for kid in ("", "another", None, 7, ["a"], {"a": 1}, "../../../dev/null", "' or 1=1 --", "\0", "İ", "x" * 4000)
    },
    "kid in another case": lambda target: _header(kid=target.key.id.swapcase())(target),
    "jku": _header(jku="https://evil.example/jwks.json"),
    "x5u": _header(x5u="https://evil.example/cert.pem"),
    "x5c": _header(x5c=["MIIB"]),
    "jwk": lambda target: _header(jwk=_strangers_jwk(target.key.id))(target),
    "foreign key by jku": _stranger(jku="https://evil.example/jwks.json", kid="evil"),
    "foreign key by x5u": _stranger(x5u="https://evil.example/cert.pem"),
    "foreign key by jwk": lambda target: _stranger(jwk=_strangers_jwk(target.key.id))(target),
    "foreign key by jwk alone": lambda target: _stranger(jwk=_strangers_jwk("evil"), kid=DROPPED)(target),
    **{f"crit {crit}": _header(crit=crit) for crit in (["exp"], ["b64"], ["x"], [], "exp", None)},
    "crit that is understood": _header(crit=["b64"], b64=True),
    "payload that isn't encoded": _header(crit=["b64"], b64=False),
    "nested": _header(cty="JWT"),
    "zip": _header(zip="DEF"),
    **{f"typ {typ!r}": _header(typ=typ) for typ in ("JWT", "at+JWT ", "jwt", "", None, 7, "id_token", "dpop+jwt")},
    "no typ": _header(typ=DROPPED),
    "header that is a list": lambda target: token(b"[]", target.claims, target.key.private.sign),
    "header that is no JSON": lambda target: token(b"{", target.claims, target.key.private.sign),
    "deep header": lambda target: token(b"[" * 3000, target.claims, target.key.private.sign),
    "alg twice": lambda target: token(
        f'{{"alg":"none","alg":"EdDSA","kid":"{target.key.id}","typ":"{TYPE}"}}'.encode(), target.claims, lambda _: b""
    ),
    **{f"no {claim}": _claims(**{claim: DROPPED}) for claim in _CLAIMS},
    **{f"{claim} null": _claims(**{claim: None}) for claim in _CLAIMS},
    **{f"{claim} a number": _claims(**{claim: 7}) for claim in ("iss", "aud", "sub", "jti", "client_id", "roles")},
    **{f"{claim} empty": _claims(**{claim: ""}) for claim in ("iss", "aud", "sub", "jti", "client_id")},
    **{
        f"{claim} {text}": _raw_claim(claim, text)
        for claim in ("exp", "iat", "nbf")
        for text in ('"9999999999"', "true", "NaN", "Infinity", "1e999", "-1", "9" * 400, "[]")
    },
    "another audience": _claims(aud="another"),
    "a list of audiences": _claims(aud=[AUDIENCE]),
    "audiences of which one is another": _claims(aud=[AUDIENCE, "another"]),
    "audience in another case": _claims(aud=AUDIENCE.upper()),
    "another issuer": _claims(iss="https://evil.example"),
    "issuer with a slash": lambda target: _claims(iss=target.issuer + "/")(target),
    "issuer with a path": lambda target: _claims(iss=target.issuer + "/evil")(target),
    "issuer in another case": lambda target: _claims(iss=target.issuer.upper())(target),
    "list of issuers": lambda target: _claims(iss=[target.issuer])(target),
    "expired": lambda target: _claims(iat=_at(-2 * HOUR), exp=_at(-1))(target),
    "of the future": lambda target: _claims(iat=_at(HOUR), exp=_at(2 * HOUR))(target),
    "not yet valid": lambda target: _claims(nbf=_at(HOUR))(target),
    "subject with half a surrogate": _raw_claim("sub", '"\\ud800"'),
    "subject that is no UTF-8": lambda target: token(
        target.header, json.dumps(target.claims).encode().replace(b"tester", b"\xff"), target.key.private.sign
    ),
    "roles as text": _claims(roles="admin"),
    "a role that is a number": _claims(roles=[7]),
    "permissions as text": _claims(permissions="*"),
    "sid a number": _claims(sid=7),
    "ver as text": _claims(ver="7"),
    "claims that are a list": lambda target: token(target.header, b"[]", target.key.private.sign),
    "claims that are no JSON": lambda target: token(target.header, b"{", target.key.private.sign),
    "deep claims": lambda target: token(target.header, b"[" * 3000, target.key.private.sign),
    "oversized": _claims(padding="x" * TOKEN_LIMIT),
    "no signature": _cut(lambda parts: [*parts[:2], ""]),
    "two segments": _cut(lambda parts: parts[:2]),
    "four segments": _cut(lambda parts: [*parts, parts[2]]),
    "five segments": _cut(lambda parts: [*parts, "", ""]),
    "foreign claims": _cut(lambda parts: [parts[0], segment({"sub": "admin"}).decode(), parts[2]]),
    "half a signature": _signature(lambda signature: signature[:32]),
    "a longer signature": _signature(lambda signature: signature + b"\0"),
    "zeros for a signature": _signature(lambda signature: bytes(64)),
    "the same signature spelled otherwise": _signature(_greater),
    "another fleet": lambda target: good(Target(SigningKey("another", STRANGER), "https://another.example")),
    "another fleet that uses our name": lambda target: good(Target(SigningKey("another", STRANGER), target.issuer)),
    "another fleet that uses our name and kid": lambda target: good(
        target._replace(key=SigningKey(target.key.id, STRANGER))
    ),
    "another fleet on the same keys": lambda target: good(target._replace(issuer="https://another.example")),
}
