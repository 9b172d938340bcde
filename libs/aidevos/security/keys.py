"""The fleet's signing key: Ed25519, made at first start under the fleet's home, mode 600.

Beside it stands `jwks.json` with the public half (RFC 7517, 8037), which is all that a verifier
reads. The key ID is the thumbprint of RFC 7638.
"""

from __future__ import annotations

import base64
import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

FOLDER = "keys"


class SigningKey(NamedTuple):
    id: str
    private: Ed25519PrivateKey


def ensure_signing_key(home: Path) -> SigningKey:
    """The signing key under this home, made if there is none. Safe under concurrent first starts."""
    folder = home / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "signing.pem"
    if not path.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _publish(path, pem)
    key = load_signing_key(home)
    write_secret(folder / "jwks.json", msgspec.json.encode({"keys": [_jwk(key)]}))
    return key


def ensure_secret(home: Path, name: str) -> bytes:
    """A secret of 32 bytes under this home, made if there is none. Safe under concurrent first starts."""
    folder = home / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / name
    if not path.exists():
        _publish(path, os.urandom(32))
    return path.read_bytes()


def load_signing_key(home: Path) -> SigningKey:
    """The signing key under this home; raises `FileNotFoundError`."""
    private = serialization.load_pem_private_key((home / FOLDER / "signing.pem").read_bytes(), password=None)
    if not isinstance(private, Ed25519PrivateKey):
        raise ValueError(f"{home / FOLDER / 'signing.pem'} holds no Ed25519 key")
    return SigningKey(_thumbprint(private.public_key()), private)


def load_public_keys(home: Path) -> dict[str, Ed25519PublicKey]:
    """Key ID → public key, from `jwks.json`; raises `FileNotFoundError`."""
    document = msgspec.json.decode(read_public_keys(home))
    keys = {}
    for jwk in document["keys"]:
        x = jwk["x"]
        keys[jwk["kid"]] = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(x + "=" * (-len(x) % 4)))
    return keys


def read_public_keys(home: Path) -> bytes:
    """The key set (RFC 7517) as JSON; raises `FileNotFoundError`."""
    return (home / FOLDER / "jwks.json").read_bytes()


def write_secret(path: Path, content: bytes) -> None:
    """Replace a file atomically, readable by its owner alone."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _publish(path: Path, content: bytes) -> None:
    """Make a secret file unless another process has been faster."""
    own = path.with_name(f"{path.name}.{os.getpid()}")
    write_secret(own, content)
    with suppress(FileExistsError):
        os.link(own, path)
    own.unlink()


def _jwk(key: SigningKey) -> dict[str, str]:
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": _x(key.private.public_key()),
        "kid": key.id,
        "use": "sig",
        "alg": "EdDSA",
    }


def _x(public: Ed25519PublicKey) -> str:
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _thumbprint(public: Ed25519PublicKey) -> str:
    members = f'{{"crv":"Ed25519","kty":"OKP","x":"{_x(public)}"}}'
    return base64.urlsafe_b64encode(hashlib.sha256(members.encode()).digest()).rstrip(b"=").decode()
