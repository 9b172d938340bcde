"""The files that describe a local fleet: `fleet.json` and `secrets.json` under its home, both with mode 600.

`fleet.json` exists while the fleet is up. It is replaced as a whole whenever a process changes, so a reader sees the
old or the new one, never a part. `secrets.json` is created at the first start and kept.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec

from aidevos.security.fleet_secrets import load_secrets
from aidevos.settings import Settings, SettingsError, load, split_urls

FLEET_FILE = "fleet.json"
# The folder of the logs of all processes, one file for each.
LOGS = "logs"
# The NATS user for clients. It may call, tell and read events.
CLIENT_USER = "client"
# Users of the fleet's own MongoDB that no service uses: one creates the others, one is the owner's for its database.
ADMIN_USER, DATA_USER = "fleet", "aidevos"


class FleetProcess(msgspec.Struct, frozen=True):
    """A running process. `name` is its folder under `services/`, or `nats` or `mongo` for a server.

    `restarts` says how often the supervisor has started it again since the fleet is up.
    """

    name: str
    replica: int
    pid: int
    restarts: int = 0


class Fleet(msgspec.Struct, kw_only=True, frozen=True):
    """The content of `fleet.json`.

    `public_url` is the issuer of the fleet's tokens. `nats_url` contains no credentials; for a cluster, it has
    the URLs of all servers, separated by commas. `mongo_url` and `event_bus_url` contain credentials. `event_bus_url`
    is empty if events go over NATS.
    """

    gateway_url: str
    public_url: str
    nats_url: str
    nats_username: str
    nats_password: str
    mongo_url: str
    mongo_database: str
    admin_username: str
    admin_password: str
    processes: list[FleetProcess]
    event_bus_url: str = ""


def load_fleet(home: Path) -> Fleet:
    """Return the fleet that is up under this home. Raises `SettingsError`."""
    try:
        return msgspec.json.decode((home / FLEET_FILE).read_bytes(), type=Fleet)
    except FileNotFoundError:
        raise SettingsError(f"no fleet is up under {home}: run `make up`, or set AIDEVOS_HOME to its home") from None
    except (OSError, msgspec.MsgspecError) as error:
        raise SettingsError(f"{home / FLEET_FILE} can't be read: {error}") from None


def fleet_issuer(settings: Settings) -> str:
    """Return the issuer of tokens for the fleet under the settings' home, or for one that they would start."""
    if (settings.home / FLEET_FILE).exists():
        return load_fleet(settings.home).public_url
    return settings.public_url


def fleet_settings(home: Path, service: str, types: Collection[str] = ()) -> Settings:
    """Return the settings of a process that joins the fleet under this home with the rights of a service.

    The URLs contain that service's credentials. In the fleet's own MongoDB, the service is granted the collections of
    these types. Raises `SettingsError` if no fleet is up there, or if a type belongs to another service.
    """
    fleet = load_fleet(home)
    user, password = fleet.nats_username, fleet.nats_password
    if user == CLIENT_USER:
        try:
            user, password = service, load_secrets(home).nats[service]
        except (FileNotFoundError, KeyError):
            raise SettingsError(f"the fleet under {home} has no service {service!r}") from None
    return load(
        home=home.absolute(),
        nats_url=with_credentials(fleet.nats_url, user, password),
        mongo_url=_mongo_url(home, fleet, service, types),
        mongo_database=fleet.mongo_database,
        event_bus_url=fleet.event_bus_url,
        public_url=fleet.public_url,
    )


def _mongo_url(home: Path, fleet: Fleet, service: str, types: Collection[str]) -> str:
    """Return the URL with the credentials of the service, or unchanged if they aren't the owner's.

    These are the cases of a MongoDB that is run elsewhere, and of a home that has the service's secrets only.
    """
    from aidevos.process.mongo_users import grant_as_owner
    from aidevos.security.tls import mongo_options

    url = fleet.mongo_url
    try:
        passwords = load_secrets(home).mongo
    except FileNotFoundError:
        return url
    if DATA_USER not in passwords or url != with_credentials(url, DATA_USER, passwords[DATA_USER]):
        return url
    if types:
        owner = with_credentials(url, ADMIN_USER, passwords[ADMIN_USER])
        grant_as_owner(owner, mongo_options(load(), url), fleet.mongo_database, service, types)
    return with_credentials(url, service, passwords[service]) if service in passwords else ""


def with_credentials(url: str, user: str, password: str) -> str:
    """Return the URL with these credentials instead of its own, or with none for an empty user.

    Several URLs are separated by commas.
    """
    credentials = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user else ""
    servers = [urlsplit(server) for server in split_urls(url)]
    addresses = [server.netloc.rpartition("@")[2] for server in servers]
    changed = [
        server._replace(netloc=credentials + address) for server, address in zip(servers, addresses, strict=True)
    ]
    return ",".join(urlunsplit(server) for server in changed)
