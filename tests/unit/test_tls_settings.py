"""The TLS settings: the URLs that use it, and the values that are refused where it is required."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from aidevos.security.tls import client_context, mongo_options
from aidevos.settings import SettingsError, asks_for_tls, load
from deploy.local import launcher

ENCRYPTED = (
    "tls://u:p@nats.example.org:4222",
    "wss://nats.example.org",
    "amqps://u:p@rabbitmq.example.org/",
    "mongodb+srv://u:p@mongo.example.org/",
    "mongodb://a.example.org:1,b.example.org:2/?replicaSet=r&tls=true",
    "mongodb://mongo.example.org/?ssl=true",
)
PLAIN = (
    "nats://u:p@nats.example.org:4222",
    "ws://nats.example.org",
    "amqp://u:p@rabbitmq.example.org/",
    "mongodb+srv://mongo.example.org/?tls=false",
    "mongodb://a.example.org:1,b.example.org:2/?replicaSet=r",
)
UNCHECKED = (
    "mongodb://mongo.example.org/?tls=true&tlsInsecure=true",
    "mongodb://mongo.example.org/?tls=true&tlsAllowInvalidCertificates=true",
    "mongodb+srv://mongo.example.org/?tlsAllowInvalidHostnames=true",
    "amqps://rabbitmq.example.org/?no_verify_ssl=1",
)


def setting_of(url: str) -> str:
    return "mongo_url" if "mongo" in url else "event_bus_url" if "amqp" in url else "nats_url"


@pytest.mark.parametrize("url", ENCRYPTED)
def test_a_url_that_asks_for_tls_is_taken_where_that_is_required(url: str) -> None:
    assert asks_for_tls(url)
    settings = load({f"AIDEVOS_{setting_of(url).upper()}": url, "AIDEVOS_TLS_REQUIRED": "true"})
    assert getattr(settings, setting_of(url)) == url


@pytest.mark.parametrize("url", [*PLAIN, *UNCHECKED])
def test_a_url_without_tls_or_without_a_check_is_refused_where_it_is_required(url: str) -> None:
    variable = f"AIDEVOS_{setting_of(url).upper()}"
    assert getattr(load({variable: url}), setting_of(url)) == url
    with pytest.raises(SettingsError, match=f"AIDEVOS_TLS_REQUIRED: {variable} must ask for TLS"):
        load({variable: url, "AIDEVOS_TLS_REQUIRED": "true"})


@pytest.mark.parametrize("url", PLAIN)
def test_a_url_without_tls_is_known_as_such(url: str) -> None:
    assert not asks_for_tls(url)


@pytest.mark.parametrize("settings", [{"nats_url": "tls://n1"}, {"event_bus_url": "amqps://broker/"}])
def test_a_context_is_made_where_a_url_asks_for_tls(settings: dict[str, str]) -> None:
    context = client_context(load({}, **settings))
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_no_context_is_made_where_nothing_asks_for_tls() -> None:
    assert client_context(load({})) is None


@pytest.mark.parametrize("variable", ["AIDEVOS_TLS_CA", "AIDEVOS_TLS_CERTIFICATE"])
def test_a_file_that_cannot_be_used_is_named_with_its_variable(tmp_path: Path, variable: str) -> None:
    file = tmp_path / "no.pem"
    for content in (None, "nonsense"):
        if content is not None:
            file.write_text(content)
        with pytest.raises(SettingsError, match=f"{variable}='{file}'"):
            client_context(load({variable: str(file)}))


def test_mongodb_gets_the_files_only_where_its_url_asks_for_tls() -> None:
    """Its driver turns TLS on if any TLS option is set."""
    settings = load({}, tls_ca="/ca.pem", tls_certificate="/client.pem")
    files = {"tlsCAFile": "/ca.pem", "tlsCertificateKeyFile": "/client.pem"}
    assert mongo_options(settings, "mongodb://mongo/?tls=true") == files
    assert mongo_options(settings, "mongodb://mongo/") == {}


def test_the_fleet_does_not_start_servers_without_tls_where_it_is_required(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="AIDEVOS_TLS_REQUIRED"):
        launcher.up(load({}, home=tmp_path, tls_required=True))
