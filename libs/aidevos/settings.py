"""All settings of the product, read from the environment once, when a process starts.

A wrong value raises `SettingsError`, one line that names the variable; commands print it and exit with
status 2.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from email.utils import parseaddr
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

import msgspec
from msgspec import Meta
from msgspec.structs import fields

from aidevos import variables
from aidevos.contracts import subjects
from aidevos.contracts.authentication import CLOCK_MARGIN, TOKEN_LIFETIME
from aidevos.contracts.patterns import whole
from aidevos.contracts.roles import NAME_PATTERN
from aidevos.contracts.users import USERNAME_PATTERN
from aidevos.log_levels import parse_levels
from aidevos.quantities import parse_time
from aidevos.variables import PREFIX as PREFIX
from aidevos.variables import SettingsError as SettingsError
from aidevos.variables import read

SMTP_SCHEMES = ("smtp", "smtp+starttls", "smtps")
SECRET_KEY_BYTES = 32
# Options of URLs that leave the server's certificate or its name unchecked.
UNCHECKED = {"tlsinsecure", "tlsallowinvalidcertificates", "tlsallowinvalidhostnames", "no_verify_ssl"}
# Bounds of `webhook_pauses`: the number of pauses, and the longest pause in seconds.
MAX_PAUSES = 50
LONGEST_PAUSE = 7 * 86_400.0
# The most processes of one service that `make up` starts.
MAX_REPLICAS = 64
# An origin as browsers write it in the header Origin (RFC 6454 §6.1).
_is_origin = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?").fullmatch

Network = IPv4Network | IPv6Network
SECONDS = {"unit": variables.SECONDS}
BYTES = {"unit": variables.BYTES}
# What is, or may contain, a password or a key.
Secret = Annotated[str, Meta(extra={"secret": True})]
Port = Annotated[int, Meta(ge=1, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=10 * 365 * 86400, extra=SECONDS)]
Timeout = Annotated[float, Meta(ge=1, le=3600, extra=SECONDS)]
Count = Annotated[int, Meta(ge=1, le=10_000_000)]
# Each one is kept with its holder.
Held = Annotated[int, Meta(ge=1, le=5000)]
# Each one is kept with the account.
Failures = Annotated[int, Meta(ge=1, le=10_000)]
ROLES = rf"{NAME_PATTERN}( *, *{NAME_PATTERN})*"
Size = Annotated[int, Meta(ge=1024, le=64 * 1024 * 1024, extra=BYTES)]
# Of one argon2id hash.
Kibibytes = Annotated[int, Meta(ge=19 * 1024, le=4 * 1024 * 1024, extra={"unit": variables.KIBIBYTES})]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one process. The field `idle_after` is the variable `AIDEVOS_IDLE_AFTER`, and so on.

    `docs/settings.md` is made of the docstrings below; a comment on a line of its own begins a section of that page.
    """

    # The fleet
    home: Path = Path("var")
    """Folder for everything that a run writes. Two fleets on one machine need two homes, and other ports."""
    host: str = "127.0.0.1"
    """Address that the gateway and the NATS server of `make up` listen on."""
    port: Port = 8080
    """Port that the gateway listens on."""
    nats_port: Port = 4222
    """Port of the NATS server that `make up` starts."""
    mongo_port: Port = 27017
    """Port of the MongoDB server that `make up` starts."""
    nats_url: Secret = ""
    """URL of a NATS server that you run yourself, with credentials. A cluster has one URL for each server, separated by
    commas, like `nats://user:password@one:4222,two:4222`. Empty: `make up` starts one."""
    mongo_url: Secret = ""
    """URL of a MongoDB replica set that you run yourself, with credentials. Empty: `make up` starts one."""
    mongo_database: Annotated[str, Meta(pattern=whole("[A-Za-z0-9_-]{1,38}"))] = "aidevos"
    """Name of the database that holds all objects of the fleet."""
    stream_replicas: Literal[1, 3, 5] = 1
    """Servers of a NATS cluster that hold a copy of each stream and bucket: 1, 3 or 5. With 3, the fleet survives the
    loss of one server, and with 5 of two."""
    tls_ca: str = ""
    """File with the certificates (PEM) of the authorities that vouch for NATS, MongoDB and RabbitMQ, where their URLs
    ask for TLS: `tls://`, `amqps://`, `mongodb+srv://` or `tls=true`. Empty: the authorities that the system trusts."""
    tls_certificate: str = ""
    """File with a certificate and its private key (PEM) for servers that ask their clients for one."""
    tls_required: bool = False
    """True if a URL of NATS, MongoDB or RabbitMQ without TLS, or without a check of the server's certificate, is
    refused."""
    services: str = "objects,authentication,user_management,data_storage,projects,api_gateway,events,task_worker"
    """Services whose health `/health/ready` reports, separated by commas."""
    replica: Annotated[int, Meta(ge=0, le=999)] = 0
    """Number of this process among those of its service on one machine. The process takes the first free number
    from here on."""
    replicas: str = ""
    """Numbers of processes that `make up` starts of some services, such as `data_storage=3,objects=2`, each from 1 to
    64. The other services have one process each, or `REPLICAS`."""
    host_name: Annotated[str, Meta(pattern=whole("([A-Za-z0-9-]{1,128})?"))] = ""
    """Name of the machine or pod that this process runs on, with which its name in the fleet ends. No two may have the
    same one at a time. Empty: it is made of the machine's own name and the identity of a file under `home`."""
    probe_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """Port on `AIDEVOS_HOST` at which this process answers `GET /health/live`, `GET /health/ready` and `GET /metrics`
    for itself alone, without a credential, for Kubernetes. 0: none."""
    metrics_port: Annotated[int, Meta(ge=0, le=65535)] = 9464
    """First port that this process tries for its metrics: it serves `GET /metrics` at the first free one from here on.
    0: it serves none, and measures neither requests nor turns."""
    metrics_host: str = "127.0.0.1"
    """Address at which this process serves its metrics, without a credential."""
    slow_turn: Seconds = 1.0
    """Time from which on a request to an object counts as slow, from its arrival to its answer: the slow log has a line
    about it, and its trace is recorded even if it isn't sampled."""
    slow_commit: Seconds = 1.0
    """Time from which on the slow log has a line about one write of commits to MongoDB."""
    slow_search: Seconds = 1.0
    """Time from which on the slow log has a line about a list, a search or a view."""
    log_level: str = "INFO"
    """Least severe level that is logged: `DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`. Loggers may have their own,
    like `INFO,aidevos.durable.turns=DEBUG`."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """Form of the log: `json` has one object on each line, and `console` is for people. `auto` is `console` on a
    terminal, in colours unless `NO_COLOR` is set, and otherwise `json`."""
    access_log: bool = False
    """True if the gateway logs each HTTP request."""

    # The gateway
    public_url: str = ""
    """URL where users and browsers find the gateway. It is the base of links in mails, the issuer of access tokens,
    and decides whether cookies need TLS. Empty: `http://<host>:<port>`."""
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    """Number of gateway processes."""
    trusted_proxies: str = ""
    """Addresses or networks of proxies whose `X-Forwarded-For` is trusted, separated by commas."""
    cors_origins: str = ""
    """Origins whose pages may call the API, separated by commas, or `*` for any. Cookies never work across
    origins."""
    max_body: Size = 8 * 1024 * 1024
    """Largest request body."""
    max_import: Annotated[int, Meta(ge=1024, le=1024**4, extra=BYTES)] = 256 * 1024 * 1024
    """Largest body of an import of items."""
    max_import_lines: Count = 100_000
    """Lines of one import of items."""
    max_transfers: Count = 50
    """Imports and exports of items in one gateway process."""
    max_caller_transfers: Count = 5
    """Imports and exports of one caller in one gateway process."""
    head_timeout: Timeout = 20.0
    """Time in which the head of a request must arrive, also on a new connection that sends nothing."""
    idle_timeout: Timeout = 60.0
    """Time without a request after which a connection is closed, and time after which a client that takes nothing of
    a response is cut off."""
    body_rate: Annotated[int, Meta(ge=1, le=1_000_000, extra={"unit": variables.BYTE_RATE})] = 500
    """Lowest rate at which a request's body may arrive, measured over ten seconds."""
    max_type_pending: Count = 1000
    """Requests in progress to one type of objects, in one gateway process. Further ones get `overloaded`, so a
    service that hangs takes nothing from the others."""
    max_streams: Count = 5000
    """Live streams of events in one gateway process."""
    max_caller_streams: Count = 100
    """Live streams of one caller in one gateway process."""

    # Requests
    default_deadline: Seconds = 10.0
    """Deadline of a request that names none."""
    max_deadline: Seconds = 300.0
    """Longest deadline that a request may name."""
    attempt_timeout: Seconds = 2.0
    """Longest wait for one attempt of a call between processes. Attempts repeat until the deadline."""
    request_id_age: Seconds = 86_400.0
    """Time for which an object keeps the outcome of a request, so that a repeat gets the same answer."""
    rate_limit: Annotated[int, Meta(ge=1, le=1_000_000, extra={"unit": "requests per second"})] = 1000
    """Sustained rate of one caller's requests, over the whole fleet. `PUT /rate-limits` overrides it."""
    rate_burst: Annotated[int, Meta(ge=1, le=10_000_000)] = 2000
    """Requests that one caller may send at once."""
    rate_items: Count = 50
    """Items of a page or an export that cost as much as one request. An item that is created always costs as much as a
    request of its own."""

    # Objects
    max_state: Annotated[int, Meta(ge=1024, le=2 * 1024 * 1024, extra=BYTES)] = 1024 * 1024
    """Largest state of one object."""
    max_mailbox: Count = 1024
    """Requests that may wait for one object. Further ones get `overloaded`."""
    max_pending: Count = 20_000
    """Requests in progress in one host process. Further ones get `overloaded`."""
    max_outbox: Count = 1000
    """Events and tells of one object that wait to be sent. A command that would add more gets `overloaded`."""
    max_alarms: Annotated[int, Meta(ge=1, le=4000)] = 100
    """Alarms of one object."""
    max_clients: Count = 1000
    """Clients whose request numbers one object remembers in its document. Those of further ones move to an
    archive."""
    max_records: Count = 20_000
    """Outcomes that one object keeps for one client until the client acknowledges them."""
    turn_deadline: Seconds = 30.0
    """Time that a method may take, unless it declares its own `turn_deadline`. Past it, the method is stopped and
    undone, and its caller gets `turn-timeout`."""
    idle_after: Seconds = 300.0
    """Time without a request after which an object leaves memory."""
    max_memory: Annotated[int, Meta(ge=1024 * 1024, extra=BYTES)] = 512 * 1024 * 1024
    """Memory for the objects of one process. Past it, the longest unused objects leave memory first, also those whose
    events or tells still wait to be sent."""
    drain_timeout: Seconds = 15.0
    """Time that a process gives requests in progress to finish when it is stopped."""
    handover_timeout: Seconds = 5.0
    """Time that requests in progress get to finish when their objects move to another host."""
    partitions: Annotated[int, Meta(ge=1, le=subjects.MAX_PARTITIONS)] = subjects.PARTITIONS
    """Parts that the objects of each type are divided into; hosts share them. Fixed when a fleet is first started."""
    lease: Annotated[int, Meta(ge=1, le=60, extra=SECONDS)] = 3
    """Life of a host's lease, in whole seconds. Others take over its partitions this long after it is cut off."""
    stall_limit: Annotated[float, Meta(ge=2, le=3600, extra=SECONDS)] = 10.0
    """Time without a turn of a host's event loop after which its lease is no longer renewed and the process ends."""
    service_permissions: str = ""
    """Permissions of this process's own calls in addition to those that its types declare, separated by commas."""
    alarm_rate: Annotated[float, Meta(ge=1, le=100_000, extra={"unit": "alarms per second"})] = 500.0
    """Rate at which one process begins late alarms after an outage."""
    alarm_deadline: Seconds = 60.0
    """Time that a handler of an alarm may take."""

    # Events and tells
    event_bus_url: Secret = ""
    """URL of a RabbitMQ (3.10 or newer) that carries the events, like `amqp://user:password@host:5672/vhost`. Each
    fleet needs a virtual host of its own. Empty: events go over NATS."""
    event_attempts: Annotated[int, Meta(ge=1, le=10_000)] = 50
    """Attempts to handle an event, with pauses of 0.1 to 25.6 seconds, before it becomes a dead letter."""
    events_max_age: Seconds = 86_400.0
    """Time for which events are kept. At least 960 seconds: a process that starts learns from the events of that
    time which tokens are no longer valid."""
    events_max_bytes: Annotated[int, Meta(ge=1024 * 1024, extra=BYTES)] = 4 * 1024 * 1024 * 1024
    """Largest size of the event stream. A full stream takes no new event and loses none: objects that emit get
    `overloaded` once their outboxes are full."""
    tell_age: Seconds = 7 * 86_400.0
    """Time for which a tell is tried before it becomes a dead letter."""
    tells_max_bytes: Annotated[int, Meta(ge=1024 * 1024, extra=BYTES)] = 1024 * 1024 * 1024
    """Largest size of the stream of clients' tells. A full stream refuses new tells and loses none."""
    letter_age: Seconds = 30 * 86_400.0
    """Time for which a dead letter is kept."""

    # Accounts
    admin_username: Annotated[str, Meta(pattern=whole(USERNAME_PATTERN))] = "admin"
    """Username of the first administrator."""
    admin_password: Secret = ""
    """Password of the first administrator. Empty: one is generated and written to `fleet.json`."""
    registration: bool = True
    """True if anyone may register."""
    password_min_length: Annotated[int, Meta(ge=8, le=128, extra={"unit": "characters"})] = 12
    """Length of the shortest password that is accepted."""
    password_memory: Annotated[int, Meta(ge=19 * 1024, le=4 * 1024 * 1024, extra={"unit": variables.KIBIBYTES})] = (
        19 * 1024
    )
    """Memory of one argon2id hash. When a parameter rises, a hash is renewed at the next login."""
    password_time: Annotated[int, Meta(ge=2, le=100)] = 2
    """Passes of one argon2id hash."""
    password_lanes: Annotated[int, Meta(ge=1, le=64)] = 1
    """Lanes of one argon2id hash."""
    password_threads: Annotated[int, Meta(ge=0, le=64)] = 0
    """Passwords that one process hashes at once. 0: one for each core."""
    password_queue: Annotated[int, Meta(ge=64, le=10_000)] = 256
    """Passwords that may wait to be hashed. Further logins get `overloaded`."""
    login_failures: Failures = 10
    """Failed logins of one account in a login window before further ones get `rate-limited`."""
    login_window: Seconds = 60.0
    """Length of the window in which logins and registrations are counted."""
    address_logins: Count = 120
    """Logins from one client address in a login window, over the whole fleet. All callers over NATS count as one
    address."""
    address_registrations: Count = 120
    """Registrations from one client address in a login window, over the whole fleet."""
    login_unverified: bool = True
    """True if users may log in before they confirm their e-mail address."""
    otp_failures: Failures = 50
    """Wrong one-time codes of one account in a day. Past it, only a recovery code completes a login."""
    mfa_required: Annotated[str, Meta(pattern=whole(rf" *(\*|{ROLES})? *"))] = ""
    """Roles whose users must have a second factor, like `admin`, separated by commas, or `*` for all users. Until such
    a user has one, the tokens of a login are good for nothing but setting it up, and the user's API keys are dead."""
    totp_issuer: Annotated[str, Meta(pattern=whole("[^:]{1,64}"))] = "AIDevOS"
    """Name that authenticator apps show for the account."""
    access_age: Annotated[float, Meta(ge=60, le=900, extra=SECONDS)] = 600.0
    """Life of an access token."""
    refresh_age: Seconds = 30 * 86_400.0
    """Life of a refresh token."""
    refresh_grace: Annotated[float, Meta(ge=0, le=60, extra=SECONDS)] = 10.0
    """Time in which a spent refresh token gets the same pair again, unless its successor was used."""
    key_age: Seconds = 90 * 86_400.0
    """Age at which a signing key is replaced."""
    key_notice: Annotated[float, Meta(ge=2, le=86_400, extra=SECONDS)] = 120.0
    """Time for which the next signing key is published before it signs."""
    secret_key: Secret = ""
    """Keys that encrypt secrets at rest: 32 bytes each in base64, separated by commas. The first one encrypts and
    all decrypt. Empty: a file under `home` holds one."""
    audit_age: Seconds = 400 * 86_400.0
    """Time for which an entry of the security log is kept."""

    # Mail
    smtp_url: Secret = ""
    """Mail server: `smtp://` uses STARTTLS where it is offered, `smtp+starttls://` insists on it, `smtps://` uses TLS
    from the start; with `user:password@` where needed. Empty: each mail becomes a file in `outbox` under `home`."""
    mail_from: str = ""
    """Sender of mails, like `AIDevOS <noreply@example.org>`. It must be set with a mail server. Empty:
    `AIDevOS <noreply@localhost>`."""
    mails_per_hour: Annotated[int, Meta(ge=1, le=1000)] = 3
    """Mails of one kind to one account in an hour."""
    address_mails: Count = 60
    """Requests for mail, and separately uses of links, from one client address in a login window, over the whole
    fleet."""
    reset_age: Seconds = 3600.0
    """Life of a link that resets a password."""
    confirm_age: Seconds = 86_400.0
    """Life of a link that confirms an e-mail address."""

    max_keys: Held = 100
    """API keys of one user."""

    # Data
    max_collections: Held = 1000
    """Collections that one user has created and that exist."""
    expiry_interval: Seconds = 30.0
    """Pause between two searches for expired items to remove."""

    # Projects and tasks
    max_projects: Held = 1000
    """Projects that one user has created, that exist, and of which the user is still a member."""
    task_slots: Annotated[int, Meta(ge=1, le=1000)] = 10
    """Tasks that one worker process runs at once."""
    task_lease: Annotated[float, Meta(ge=1, le=3600, extra=SECONDS)] = 30.0
    """Time without a heartbeat of its worker after which an attempt is given up."""
    task_poll: Annotated[float, Meta(ge=0.1, le=3600, extra=SECONDS)] = 10.0
    """Pause between two searches of a worker for tasks that no event announced to it."""

    # Webhooks
    webhook_networks: str = ""
    """Networks that webhooks may reach although they are not public, like `10.0.0.0/8`, separated by commas."""
    max_webhooks: Annotated[int, Meta(ge=1, le=500)] = 20
    """Webhooks of one user."""
    max_webhook_sends: Annotated[int, Meta(ge=1, le=1000)] = 20
    """Deliveries in progress to one webhook, over the whole fleet."""
    max_sends: Annotated[int, Meta(ge=1, le=10_000)] = 200
    """Deliveries in progress to all webhooks, over the whole fleet. Those of one owner take at most a quarter."""
    webhook_pauses: str = "5,300,1800,7200,18000,28800,28800"
    """Pauses before the second attempt of a delivery, the third, and so on, separated by commas, in seconds or with
    units. At most 50, of at most 7 days each, and shorter than `AIDEVOS_DELIVERY_AGE` together."""
    webhook_patience: Seconds = 3 * 86_400.0
    """Time for which all deliveries may fail before a webhook is disabled."""
    delivery_age: Seconds = 7 * 86_400.0
    """Time for which the log of a webhook keeps a delivery."""

    # Backups
    backup_passphrase: Secret = ""
    """Passphrase that encrypts the copies of `aidevos backup`, and with which `aidevos restore` reads them."""


def load(environ: Mapping[str, str] = os.environ, **overrides: Any) -> Settings:
    """Return the settings of this environment; `overrides` take precedence. Raises `SettingsError`."""
    values: dict[str, Any] = {name: given.value for name, given in read(environ, fields(Settings)).items()}
    values.update(overrides)
    values["nats_url"] = _nats_urls(values.get("nats_url", ""))
    settings = Settings(**values)
    _check_log_level(settings.log_level)
    if settings.events_max_age < TOKEN_LIFETIME + CLOCK_MARGIN:
        raise SettingsError(
            f"{PREFIX}EVENTS_MAX_AGE must be at least {TOKEN_LIFETIME + CLOCK_MARGIN:.0f} seconds: "
            "a process that starts learns from the events of that time which tokens are no longer valid"
        )
    replica_counts(settings.replicas)
    _check_networks(settings)
    _check_event_bus(settings.event_bus_url)
    _check_tls(settings)
    cors_origins(settings.cors_origins)
    _check_mail(settings)
    secret_keys(settings.secret_key)
    if sum(webhook_pauses(settings.webhook_pauses)) >= settings.delivery_age:
        raise SettingsError(f"{PREFIX}DELIVERY_AGE must be longer than all of {PREFIX}WEBHOOK_PAUSES together")
    files = {name: _absolute(getattr(settings, name)) for name in ("tls_ca", "tls_certificate")}
    home = settings.home.expanduser().absolute()
    return msgspec.structs.replace(settings, home=home, public_url=_public_url(settings), **files)


def _check_log_level(text: str) -> None:
    try:
        parse_levels(text)
    except ValueError as error:
        raise SettingsError(f"{PREFIX}LOG_LEVEL={text!r}: {error}") from None


def replica_counts(text: str) -> dict[str, int]:
    """Return the number of processes of each service in a text like `data_storage=3,objects=2`.

    Raises `SettingsError`.
    """
    counts: dict[str, int] = {}
    for entry in filter(None, text.replace(" ", "").split(",")):
        service, _, number = entry.partition("=")
        counts[service] = replica_count(number, f"{PREFIX}REPLICAS={text!r}")
    return counts


def replica_count(text: str, where: str) -> int:
    """Return a number of processes. Raises `SettingsError`, which begins with `where`."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_REPLICAS):
        raise SettingsError(f"{where}: {text!r} isn't a number of processes from 1 to {MAX_REPLICAS}")
    return int(text)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""


def _public_url(settings: Settings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = settings.public_url.rstrip("/") or f"http://{host}:{settings.port}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.username or parts.query or parts.fragment or not url.isascii() or " " in url:
        raise SettingsError(f"{PREFIX}PUBLIC_URL={url!r} must be a URL like https://api.example.org")
    return url


def _check_event_bus(url: str) -> None:
    """Raise `SettingsError` for an invalid URL, without showing it, since it may contain a password."""
    try:
        server = urlsplit(url)
        usable = not url or (server.scheme in ("amqp", "amqps") and server.hostname and server.port != 0)
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(f"{PREFIX}EVENT_BUS_URL must be like amqp://user:password@rabbitmq.example.org:5672/")


def split_urls(urls: str) -> list[str]:
    """Return the URLs of several servers one by one. The hosts of a single MongoDB URL stay together."""
    return re.split(r",(?=[a-z+]+://)", urls)


def _nats_urls(text: str) -> str:
    """Return the URLs of NATS servers, each with the scheme and the credentials of the first one.

    Raises `SettingsError`, which shows none of them, for servers that differ in these.
    """
    servers = [server.strip() for server in text.split(",") if server.strip()]
    if len(servers) < 2:
        return text
    scheme, _, rest = servers[0].rpartition("://")
    user = rest.rpartition("@")[0]
    urls = []
    for server in servers:
        own_scheme, _, address = server.rpartition("://")
        own_user, _, host = address.rpartition("@")
        if own_scheme not in ("", scheme) or own_user not in ("", user):
            raise SettingsError(f"{PREFIX}NATS_URL: all servers of a cluster must have the same scheme and credentials")
        urls.append(f"{scheme or 'nats'}://{user}{'@' if user else ''}{host}")
    return ",".join(urls)


def asks_for_tls(url: str) -> bool:
    """True if a URL of NATS, MongoDB or RabbitMQ asks for TLS."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    if parts.scheme in ("mongodb", "mongodb+srv"):
        default = "true" if parts.scheme == "mongodb+srv" else "false"
        return options.get("tls", options.get("ssl", default)).lower() == "true"
    return parts.scheme in ("tls", "wss", "amqps")


def _check_tls(settings: Settings) -> None:
    """Raise `SettingsError` for a URL without TLS. The message leaves out the URL, which may hold a password."""
    for name in ("nats_url", "mongo_url", "event_bus_url") if settings.tls_required else ():
        for url in split_urls(getattr(settings, name)):
            options = {option.lower() for option, _ in parse_qsl(urlsplit(url).query)}
            if url and (not asks_for_tls(url) or options & UNCHECKED):
                variable = f"{PREFIX}{name.upper()}"
                problem = "must ask for TLS and check the server's certificate"
                raise SettingsError(f"{PREFIX}TLS_REQUIRED: {variable} {problem}")


def _check_networks(settings: Settings) -> None:
    for name in ("trusted_proxies", "webhook_networks"):
        text = getattr(settings, name)
        try:
            networks(text)
        except ValueError as error:
            raise SettingsError(f"{PREFIX}{name.upper()}={text!r}: {error}") from None


def networks(text: str) -> tuple[Network, ...]:
    """Return the networks in a setting, separated by commas. Raises `ValueError`."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def webhook_pauses(text: str) -> tuple[float, ...]:
    """Return the pauses in the setting `webhook_pauses`, in seconds. Raises `SettingsError`."""
    try:
        pauses = tuple(parse_time(part) for part in text.split(",") if part.strip())
    except ValueError:
        pauses = (0.0,)
    if not all(0 < pause <= LONGEST_PAUSE for pause in pauses) or len(pauses) > MAX_PAUSES:
        raise SettingsError(f"{PREFIX}WEBHOOK_PAUSES={text!r} must be up to {MAX_PAUSES} times, like 5,300 or 5s,5m")
    return pauses


def cors_origins(text: str) -> list[str]:
    """Return the origins in the setting `cors_origins`. Raises `SettingsError`."""
    origins = [origin.strip() for origin in text.split(",") if origin.strip()]
    for origin in origins:
        if origins != ["*"] and not _is_origin(origin):
            raise SettingsError(f"{PREFIX}CORS_ORIGINS={text!r}: {origin!r} must be like https://app.example.org")
    return origins


def _check_mail(settings: Settings) -> None:
    """Raise `SettingsError` for an invalid sender or server; the server's URL may hold a password and isn't shown."""
    if settings.mail_from or settings.smtp_url:
        address = parseaddr(settings.mail_from)[1]
        if not 0 < address.find("@") < len(address) - 1 or not settings.mail_from.isprintable():
            raise SettingsError(f"{PREFIX}MAIL_FROM={settings.mail_from!r} must be like AIDevOS <noreply@example.org>")
    if settings.smtp_url:
        try:
            server = urlsplit(settings.smtp_url)
            usable = server.scheme in SMTP_SCHEMES and server.hostname and server.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise SettingsError(f"{PREFIX}SMTP_URL must be like smtp+starttls://user:password@mail.example.org:587")


def secret_keys(text: str) -> list[bytes]:
    """Return the keys in the setting `secret_key`. Raises `SettingsError`, which shows none of them."""
    try:
        keys = [base64.b64decode(key.strip(), validate=True) for key in text.split(",") if text]
    except ValueError:
        keys = [b""]
    if any(len(key) != SECRET_KEY_BYTES for key in keys):
        raise SettingsError(f"{PREFIX}SECRET_KEY must be {SECRET_KEY_BYTES} bytes in base64; commas separate several")
    return keys
