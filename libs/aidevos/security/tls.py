"""TLS to NATS, MongoDB and RabbitMQ, as the settings describe it.

Promise: where a URL asks for TLS, the server proves with a certificate that it is the host in the URL. A connection
never falls back to an unencrypted one.
"""

from __future__ import annotations

import ssl
from typing import Any

from aidevos.settings import PREFIX, Settings, SettingsError, asks_for_tls, split_urls


def client_context(settings: Settings) -> ssl.SSLContext | None:
    """Return the context of every connection to a server, or None if nothing in the settings asks for TLS.

    A context costs 50 ms and some memory. Raises `SettingsError` for files that can't be used.
    """
    urls = [*split_urls(settings.nats_url), settings.event_bus_url]
    if not (settings.tls_ca or settings.tls_certificate or any(map(asks_for_tls, urls))):
        return None
    variable = "TLS_CA"
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca or None)
        variable = "TLS_CERTIFICATE"
        if settings.tls_certificate:
            context.load_cert_chain(settings.tls_certificate)
    except OSError as error:
        path = getattr(settings, variable.lower())
        raise SettingsError(f"{PREFIX}{variable}={path!r} can't be used: {error}") from None
    return context


def mongo_options(settings: Settings, url: str) -> dict[str, Any]:
    """Return what the settings add to the options of a MongoDB URL; nothing where it doesn't ask for TLS."""
    if not asks_for_tls(url):
        return {}
    files = {"tlsCAFile": settings.tls_ca, "tlsCertificateKeyFile": settings.tls_certificate}
    return {option: path for option, path in files.items() if path}
