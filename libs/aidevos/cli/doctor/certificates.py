"""Checks of certificates: those in files, and those that the servers show."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from aidevos.cli.doctor.finding import Finding, error, ok, warning
from aidevos.cli.doctor.patient import Patient
from aidevos.settings import asks_for_tls, split_urls

WITHIN = 3.0
SOON = timedelta(days=30)


async def check_certificates(patient: Patient) -> list[Finding]:
    """Find certificates that have expired, or soon will."""
    settings = patient.settings
    files = {name: getattr(settings, name) for name in ("tls_ca", "tls_certificate")}
    urls = (*split_urls(patient.nats_url), patient.mongo_url, patient.event_bus_url, settings.public_url)
    looks: list[tuple[str, Callable[[], bytes]]] = [
        *((f"AIDEVOS_{name.upper()}", Path(path).read_bytes) for name, path in files.items() if path),
        *((_place(url), partial(_fetch, url)) for url in urls if asks_for_tls(url) or url.startswith("https:")),
    ]
    if not looks:
        return [ok("certificates", "none is used")]
    return await asyncio.gather(*(asyncio.to_thread(_look, *look) for look in looks))


def _look(where: str, read: Callable[[], bytes]) -> Finding:
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificates(read())
    except (OSError, ValueError) as failure:
        return error("certificates", f"that of {where} can't be read: {failure}", "see whether it is there")
    return judge(where, min(each.not_valid_after_utc for each in found))


def judge(where: str, until: datetime) -> Finding:
    """Return what is to be said of a certificate that is valid until this time."""
    now, day = datetime.now(UTC), f"{until:%Y-%m-%d}"
    if until < now:
        return error("certificates", f"that of {where} has expired on {day}", "renew it, and restart its server")
    if until < now + SOON:
        return warning("certificates", f"that of {where} expires on {day}", "renew it")
    return ok("certificates", f"that of {where} is valid until {day}")


def _place(url: str) -> str:
    parts = urlsplit(url)
    ports = {"https": 443, "amqps": 5671, "tls": 4222, "mongodb": 27017}
    host = parts.netloc.rpartition("@")[2].split(",")[0]
    return host if ":" in host.rpartition("]")[2] else f"{host}:{ports.get(parts.scheme, 27017)}"


def _fetch(url: str) -> bytes:
    """Return the certificate that a server shows, in PEM."""
    host, _, port = _place(url).rpartition(":")
    host = host.strip("[]")
    context = ssl.create_default_context()
    # An expired certificate must be seen too. Nothing is sent.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, int(port)), WITHIN) as connection:
        if url.startswith("tls:"):
            # NATS speaks first, and in the clear.
            connection.recv(64 * 1024)
        with context.wrap_socket(connection, server_hostname=host) as encrypted:
            return ssl.DER_cert_to_PEM_cert(encrypted.getpeercert(binary_form=True) or b"").encode()
