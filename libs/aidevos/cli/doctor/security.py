"""Checks for what would let a stranger in."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from msgspec.structs import fields

from aidevos.cli.doctor.finding import Finding, error, ok, warning
from aidevos.cli.doctor.patient import Patient
from aidevos.contracts.errors import Failure
from aidevos.security.passwords import check_policy
from aidevos.settings import PREFIX, Settings, asks_for_tls, split_urls
from aidevos.variables import is_secret

# What the fleet writes under its home and only its owner may read.
SECRET_FILES = (
    *("fleet.json", "secrets.json", "environment.json", "supervisord.conf", "nats/nats.conf", "nats/accounts.conf"),
    *("mongo/key", "keys/*", "service_keys/*"),
)
SHORTEST = 12
LOCAL = ("localhost", "")


async def check_passwords(patient: Patient) -> list[Finding]:
    """Find passwords that can be guessed, and servers that ask for none."""
    found = []
    fleet, settings = patient.fleet, patient.settings
    admin = fleet.admin_password if fleet is not None else settings.admin_password
    name = fleet.admin_username if fleet is not None else settings.admin_username
    if admin and (reason := _weakness(admin, name)):
        found.append(error("passwords", f"the first administrator's: {reason}", "change it there, and in the settings"))
    for server, url in _urls(patient).items():
        parts = urlsplit(split_urls(url)[0])
        if not parts.username:
            found.append(error("passwords", f"{server} asks for no password", "give it users, and name one in its URL"))
        elif reason := _weakness(unquote(parts.password or ""), unquote(parts.username)):
            found.append(error("passwords", f"that of {server}: {reason}", f"give the user of {server} a random one"))
    return found or [ok("passwords", "none can be guessed")]


async def check_files(patient: Patient) -> list[Finding]:
    """Find files with secrets that others than their owner may read."""
    if not patient.home.is_dir():
        return [ok("files", f"{patient.home} doesn't exist yet")]
    open_to_others = [path for path in _secret_files(patient.home) if path.stat().st_mode & 0o077]
    if open_to_others:
        names = ", ".join(str(path.relative_to(patient.home)) or "." for path in open_to_others[:5])
        more = f" and {len(open_to_others) - 5} more" if len(open_to_others) > 5 else ""
        advice = f"chmod -R go-rwx {patient.home}, and replace the secrets if somebody may have read them"
        return [error("files", f"others may read {names}{more} under {patient.home}", advice)]
    return [ok("files", f"only the owner may read the secrets under {patient.home}")]


async def check_environment(patient: Patient) -> list[Finding]:
    """Find secrets in variables, which every child process inherits and crash reports show."""
    import os

    given = {**patient.variables, **os.environ}
    secrets = [PREFIX + field.name.upper() for field in fields(Settings) if is_secret(field)]
    found = sorted(name for name in secrets if given.get(name) and _has_secret(name, given[name]))
    if not found:
        return [ok("environment", "no secret is in a variable")]
    return [warning("environment", f"{', '.join(found)} hold secrets", f"put them into files, as in {found[0]}_FILE")]


async def check_tls(patient: Patient) -> list[Finding]:
    """Find connections without TLS that leave this machine."""
    found = []
    for server, url in _urls(patient).items():
        away = [host for host in _hosts(url) if not _is_local(host)]
        if away and not asks_for_tls(url):
            found.append(error("TLS", f"{server} at {', '.join(away)} is used without TLS", "see Operations, TLS"))
    settings = patient.settings
    if not _is_local(settings.host):
        what = "the gateway" if settings.nats_url else "the gateway and NATS"
        found.append(
            warning("TLS", f"{what} listen on {settings.host} without TLS", "put a proxy with TLS in front of it")
        )
    public = urlsplit(settings.public_url)
    if public.scheme == "http" and not _is_local(public.hostname or "") and public.hostname != settings.host:
        found.append(warning("TLS", f"users reach {settings.public_url} without TLS", "set AIDEVOS_PUBLIC_URL"))
    return found or [ok("TLS", "nothing leaves this machine without it")]


async def check_compressors(patient: Patient) -> list[Finding]:
    """Find out whether MongoDB takes zlib, through which older versions leak memory (CVE-2025-14847)."""
    options = await patient.ask_mongo(lambda data: data.client.admin.command("getCmdLineOpts")["parsed"])
    given = options.get("net", {}).get("compression", {}).get("compressors", "snappy,zstd,zlib")
    if "zlib" in given:
        advice = "start it with --networkMessageCompressors snappy,zstd"
        return [warning("compressors", f"MongoDB takes {given}", advice)]
    return [ok("compressors", f"MongoDB takes {given}, and no zlib")]


async def check_origins(patient: Patient) -> list[Finding]:
    """Find pages and proxies that are trusted without limit."""
    settings, found = patient.settings, []
    if settings.cors_origins.strip() == "*":
        found.append(warning("origins", "pages of any origin may call the API", "name them in AIDEVOS_CORS_ORIGINS"))
    if any(_is_everywhere(each.strip()) for each in settings.trusted_proxies.split(",")):
        advice = "name your proxies in AIDEVOS_TRUSTED_PROXIES: callers can otherwise choose their address"
        found.append(error("origins", f"every address is a trusted proxy ({settings.trusted_proxies})", advice))
    return found or [ok("origins", "no page and no proxy is trusted without limit")]


def _weakness(password: str, user: str) -> str:
    try:
        check_policy(password, SHORTEST, (user,))
    except Failure as failure:
        return failure.detail
    return ""


def _urls(patient: Patient) -> dict[str, str]:
    urls = {"NATS": patient.nats_url, "MongoDB": patient.mongo_url, "RabbitMQ": patient.event_bus_url}
    return {server: url for server, url in urls.items() if url}


def _hosts(url: str) -> Iterator[str]:
    for server in split_urls(url):
        for place in urlsplit(server).netloc.rpartition("@")[2].split(","):
            yield (urlsplit(f"//{place}").hostname or "") if place else ""


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOCAL


def _is_everywhere(network: str) -> bool:
    return network == "*" or network.endswith("/0")


def _has_secret(name: str, value: str) -> bool:
    """Return False for a URL without a password."""
    return urlsplit(value).password is not None if name.endswith("_URL") else True


def _secret_files(home: Path) -> Iterator[Path]:
    yield home
    for pattern in SECRET_FILES:
        yield from home.glob(pattern)
