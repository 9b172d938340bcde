"""The fleet's addresses and credentials, as `fleet.json` publishes them."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from aidevos.process.fleet import CLIENT_USER, DATA_USER, Fleet, FleetProcess, with_credentials
from aidevos.security.fleet_secrets import Secrets
from aidevos.settings import Settings, split_urls

from . import mongo_server, nats_server
from .ports import authority


def gateway_url(settings: Settings) -> str:
    return f"http://{authority(settings.host, settings.port)}"


def describe(settings: Settings, secrets: Secrets, processes: list[FleetProcess]) -> Fleet:
    """Return the content of `fleet.json` for a fleet with these processes."""
    nats_url = nats_server.url(settings, secrets, CLIENT_USER)
    credentials = urlsplit(split_urls(nats_url)[0])
    return Fleet(
        gateway_url=gateway_url(settings),
        public_url=settings.public_url,
        nats_url=with_credentials(nats_url, "", ""),
        nats_username=unquote(credentials.username or ""),
        nats_password=unquote(credentials.password or ""),
        mongo_url=mongo_server.url(settings, secrets, DATA_USER),
        mongo_database=settings.mongo_database,
        event_bus_url=settings.event_bus_url,
        admin_username=settings.admin_username,
        admin_password=settings.admin_password or secrets.admin_password,
        processes=processes,
    )
