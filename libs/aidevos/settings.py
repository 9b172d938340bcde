"""Every setting of the product, read from the environment once, at the start of a process.

A wrong value raises `SettingsError`, one line that names the variable; commands print it and exit
with status 2. Durations are in seconds and sizes in bytes, unless a name says otherwise.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Mapping
from email.utils import parseaddr
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from aidevos.contracts.authentication import CLOCK_MARGIN, TOKEN_LIFETIME
from aidevos.contracts.patterns import whole
from aidevos.contracts.users import USERNAME_PATTERN

PREFIX = "AIDEVOS_"
SMTP_SCHEMES = ("smtp", "smtp+starttls", "smtps")
SECRET_KEY_BYTES = 32
# Of attempts to deliver a webhook: their number but one, and seconds between two.
MAX_PAUSES = 50
LONGEST_PAUSE = 7 * 86_400.0
# As browsers write it in the header Origin (RFC 6454 §6.1).
_is_origin = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?").fullmatch

Network = IPv4Network | IPv6Network
Port = Annotated[int, Meta(ge=1, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=10 * 365 * 86400)]
Count = Annotated[int, Meta(ge=1, le=10_000_000)]
Size = Annotated[int, Meta(ge=1024, le=64 * 1024 * 1024)]


class SettingsError(Exception):
    """A setting that can't be used; the message is one line that names the variable."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The field `idle_after` is the variable `AIDEVOS_IDLE_AFTER`, and so on."""

    home: Path = Path("var")
    # Where things listen and whom they connect to. A URL that is set names a server that is run elsewhere.
    host: str = "127.0.0.1"
    port: Port = 8080
    nats_port: Port = 4222
    mongo_port: Port = 27017
    nats_url: str = ""
    mongo_url: str = ""
    mongo_database: Annotated[str, Meta(pattern=whole("[A-Za-z0-9_-]{1,38}"))] = "aidevos"
    admin_username: Annotated[str, Meta(pattern=whole(USERNAME_PATTERN))] = "admin"
    admin_password: str = ""
    # The gateway. `public_url` is where browsers and mail links find it, by default where it listens;
    # `trusted_proxies` are addresses or networks whose X-Forwarded-For is trusted, with commas between.
    public_url: str = ""
    trusted_proxies: str = ""
    # Origins whose pages may call, with commas between, or * for any.
    cors_origins: str = ""
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    max_body: Size = 8 * 1024 * 1024
    services: str = "objects,authentication,user_management,data_storage,projects,api_gateway,events,task_worker"
    # Requests.
    default_deadline: Seconds = 10.0
    max_deadline: Seconds = 300.0
    attempt_timeout: Seconds = 2.0
    # Requests to one type of objects that are under way in one gateway process.
    max_type_pending: Count = 1000
    # Live streams of events in one gateway process, and those of one caller among them.
    max_streams: Count = 5000
    max_caller_streams: Count = 100
    # Requests of one caller: so many in a second, and so many at once.
    rate_limit: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    rate_burst: Annotated[int, Meta(ge=1, le=10_000_000)] = 2000
    # Objects: bounds of one object and of one host.
    replica: Annotated[int, Meta(ge=0, le=999)] = 0
    max_state: Annotated[int, Meta(ge=1024, le=2 * 1024 * 1024)] = 1024 * 1024
    max_mailbox: Count = 1024
    max_pending: Count = 20_000
    max_outbox: Count = 1000
    max_alarms: Annotated[int, Meta(ge=1, le=4000)] = 100
    max_clients: Count = 1000
    max_records: Count = 20_000
    idle_after: Seconds = 300.0
    max_memory: Annotated[int, Meta(ge=1024 * 1024)] = 512 * 1024 * 1024
    drain_timeout: Seconds = 15.0
    service_permissions: str = ""
    # Alarms: how many late ones begin in a second, in one process, and how long a handler may take.
    alarm_rate: Annotated[float, Meta(ge=1, le=100_000)] = 500.0
    alarm_deadline: Seconds = 60.0
    # Request IDs and tells.
    request_id_age: Seconds = 86_400.0
    tell_age: Seconds = 7 * 86_400.0
    # Placement.
    lease: Annotated[float, Meta(ge=1, le=60)] = 3.0
    # Events: over RabbitMQ (amqp://…), or by default over JetStream; attempts of a handler at one of them before
    # it becomes a dead letter; bounds of the stream.
    event_bus_url: str = ""
    event_attempts: Annotated[int, Meta(ge=1, le=10_000)] = 50
    events_max_age: Seconds = 86_400.0
    events_max_bytes: Annotated[int, Meta(ge=1024 * 1024)] = 4 * 1024 * 1024 * 1024
    # The stream of tells that clients send. A tell is kept until it is done.
    tells_max_bytes: Annotated[int, Meta(ge=1024 * 1024)] = 1024 * 1024 * 1024
    # Accounts. Password parameters are argon2id's; memory is in KiB, and 0 threads are one for each core.
    registration: bool = True
    password_min_length: Annotated[int, Meta(ge=8, le=128)] = 12
    password_memory: Annotated[int, Meta(ge=19 * 1024, le=4 * 1024 * 1024)] = 19 * 1024
    password_time: Annotated[int, Meta(ge=2, le=100)] = 2
    password_lanes: Annotated[int, Meta(ge=1, le=64)] = 1
    password_threads: Annotated[int, Meta(ge=0, le=64)] = 0
    password_queue: Annotated[int, Meta(ge=64, le=10_000)] = 256
    login_failures: Count = 10
    login_window: Seconds = 60.0
    address_logins: Count = 120
    address_registrations: Count = 120
    # Mail. Without a server it goes to a folder under `home`. Ages are those of links.
    smtp_url: str = ""
    mail_from: str = ""
    mails_per_hour: Annotated[int, Meta(ge=1, le=1000)] = 3
    address_mails: Count = 60
    reset_age: Seconds = 3600.0
    confirm_age: Seconds = 86_400.0
    login_unverified: bool = True
    access_age: Annotated[float, Meta(ge=60, le=900)] = 600.0
    refresh_age: Seconds = 30 * 86_400.0
    refresh_grace: Annotated[float, Meta(ge=0, le=60)] = 10.0
    # A signing key is replaced at this age. The next one is published for `key_notice` before it signs.
    key_age: Seconds = 90 * 86_400.0
    key_notice: Annotated[float, Meta(ge=2, le=86_400)] = 120.0
    otp_failures: Count = 50
    totp_issuer: Annotated[str, Meta(pattern=whole("[^:]{1,64}"))] = "AIDevOS"
    # Keys of what is encrypted at rest, 32 bytes each in base64, with commas between; the first one
    # encrypts. Without any, a file under `home` holds one.
    secret_key: str = ""
    # The security log: how long an entry is kept.
    audit_age: Seconds = 400 * 86_400.0
    # How long a dead letter is kept.
    letter_age: Seconds = 30 * 86_400.0
    # Data: seconds between two looks for items to remove that have expired.
    expiry_interval: Seconds = 30.0
    # Tasks: how many a worker's process has in hand at a time; seconds after which an attempt is given up when
    # nothing was heard of its worker; and how often a worker looks for tasks that nothing has woken it for.
    task_slots: Annotated[int, Meta(ge=1, le=1000)] = 10
    task_lease: Annotated[float, Meta(ge=1, le=3600)] = 30.0
    task_poll: Annotated[float, Meta(ge=0.1, le=3600)] = 10.0
    # Webhooks: networks that they may reach though they aren't public, with commas between.
    webhook_networks: str = ""
    # Those of one user, and how many deliveries are under way at once: to one webhook, and in one process.
    max_webhooks: Annotated[int, Meta(ge=1, le=500)] = 20
    max_webhook_sends: Annotated[int, Meta(ge=1, le=1000)] = 20
    max_sends: Annotated[int, Meta(ge=1, le=10_000)] = 200
    # Seconds before the second attempt of a delivery, before the third, and so on, with commas between; for
    # how long everything may fail before a webhook is disabled; how long the log keeps a delivery.
    webhook_pauses: str = "5,300,1800,7200,18000,28800,28800"
    webhook_patience: Seconds = 3 * 86_400.0
    delivery_age: Seconds = 7 * 86_400.0
    # Logs.
    log_level: str = "INFO"


def load(environ: Mapping[str, str] = os.environ, **overrides: Any) -> Settings:
    """The settings of this environment; `overrides` win. Raises `SettingsError`."""
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(Settings):
        variable = PREFIX + field.name.upper()
        text = environ.get(variable)
        if text is None or text == "":
            continue
        values[field.name] = _convert(variable, text, field.type)
    values.update(overrides)
    settings = Settings(**values)
    if settings.log_level.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise SettingsError(f"{PREFIX}LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR, not {settings.log_level!r}")
    if settings.events_max_age < TOKEN_LIFETIME + CLOCK_MARGIN:
        raise SettingsError(
            f"{PREFIX}EVENTS_MAX_AGE must be at least {TOKEN_LIFETIME + CLOCK_MARGIN:.0f} seconds: "
            "a process that starts learns from the events of that time which tokens are dead"
        )
    _check_networks(settings)
    _check_event_bus(settings.event_bus_url)
    cors_origins(settings.cors_origins)
    _check_mail(settings)
    secret_keys(settings.secret_key)
    if sum(webhook_pauses(settings.webhook_pauses)) >= settings.delivery_age:
        raise SettingsError(f"{PREFIX}DELIVERY_AGE must be longer than all of {PREFIX}WEBHOOK_PAUSES together")
    return msgspec.structs.replace(
        settings, home=settings.home.expanduser().absolute(), public_url=_public_url(settings)
    )


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
    """The URL may hold a password, and is not repeated."""
    try:
        server = urlsplit(url)
        usable = not url or (server.scheme in ("amqp", "amqps") and server.hostname and server.port != 0)
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(f"{PREFIX}EVENT_BUS_URL must be like amqp://user:password@rabbitmq.example.org:5672/")


def _check_networks(settings: Settings) -> None:
    for name in ("trusted_proxies", "webhook_networks"):
        text = getattr(settings, name)
        try:
            networks(text)
        except ValueError as error:
            raise SettingsError(f"{PREFIX}{name.upper()}={text!r}: {error}") from None


def networks(text: str) -> tuple[Network, ...]:
    """The networks in a setting, with commas between; raises `ValueError`."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def webhook_pauses(text: str) -> tuple[float, ...]:
    """The pauses in the setting `webhook_pauses`; raises `SettingsError`."""
    try:
        pauses = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        pauses = (0.0,)
    if not all(0 < pause <= LONGEST_PAUSE for pause in pauses) or len(pauses) > MAX_PAUSES:
        raise SettingsError(f"{PREFIX}WEBHOOK_PAUSES={text!r} must be up to {MAX_PAUSES} numbers, like 5,300")
    return pauses


def cors_origins(text: str) -> list[str]:
    """The origins in the setting `cors_origins`; raises `SettingsError`."""
    origins = [origin.strip() for origin in text.split(",") if origin.strip()]
    for origin in origins:
        if origins != ["*"] and not _is_origin(origin):
            raise SettingsError(f"{PREFIX}CORS_ORIGINS={text!r}: {origin!r} must be like https://app.example.org")
    return origins


def _check_mail(settings: Settings) -> None:
    """The URL may hold a password, and is not repeated."""
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
    """The keys in the setting `secret_key`; raises `SettingsError`, which shows none of them."""
    try:
        keys = [base64.b64decode(key.strip(), validate=True) for key in text.split(",") if text]
    except ValueError:
        keys = [b""]
    if any(len(key) != SECRET_KEY_BYTES for key in keys):
        raise SettingsError(f"{PREFIX}SECRET_KEY must be {SECRET_KEY_BYTES} bytes in base64; commas separate several")
    return keys


def _convert(variable: str, text: str, type: Any) -> Any:
    convert: Callable[[Any], Any] = lambda value: msgspec.convert(value, type, strict=False)  # noqa: E731
    if type is Path:
        convert = Path
    try:
        return convert(text)
    except (msgspec.ValidationError, ValueError) as error:
        raise SettingsError(f"{variable}={text!r} can't be used: {error}") from None
