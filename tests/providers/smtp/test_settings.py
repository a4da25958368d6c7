"""The settings of an SMTP provider."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mailroom.config import load
from mailroom.config.fields import leaves
from mailroom.providers import module_of
from mailroom.providers.smtp.smtp_provider import Settings


@pytest.mark.parametrize(
    ("given", "port"),
    [
        ({}, 587),
        ({"tls": "starttls"}, 587),
        ({"tls": "opportunistic"}, 587),
        ({"tls": "implicit"}, 465),
        ({"tls": "none"}, 25),
        ({"tls": "none", "port": 2525}, 2525),
    ],
)
def test_the_default_port_depends_on_the_encryption(given: dict[str, Any], port: int) -> None:
    assert Settings(host="smtp.acme.example", **given).port == port


@pytest.mark.parametrize(
    ("given", "tls"),
    [
        ({"port": 465}, "implicit"),
        ({"port": "465"}, "implicit"),
        ({"port": 465, "preset": "mailgun"}, "implicit"),
        ({"port": 465, "tls": "starttls"}, "starttls"),
        ({"port": 587}, "starttls"),
        ({"port": 25}, "starttls"),
        ({"port": 2525, "preset": "aliyun"}, "starttls"),
    ],
)
def test_the_default_encryption_depends_on_the_port(given: dict[str, Any], tls: str) -> None:
    """A server on port 465 waits for TLS: with STARTTLS both sides would wait (logto-io/logto#6191)."""
    assert Settings(host="smtp.acme.example", **given).tls == tls


@pytest.mark.parametrize(
    "given",
    [
        {"host": ""},
        {"host": "smtp.acme.example\r\nQUIT"},
        {"host": "http://smtp.acme.example"},
        {"host": "a" * 64 + ".example"},
        {"port": 0},
        {"port": 65536},
        {"tls": "ssl"},
        {"username": "u"},
        {"password": "p"},
        {"username": "u", "password": ""},
        {"username": "u\0v", "password": "p"},
        {"auth": "digest-md5"},
        {"helo_name": "mail.acme.example evil"},
        {"helo_name": "mail.acme.example\r\nMAIL"},
        {"helo_name": "-"},
        {"local_address": "everywhere"},
        {"ca_file": "/nowhere/ca.pem"},
        {"headers": {"X-Env": "prod\r\nBcc: eve@evil.example"}},
        {"headers": {"X-Env": "nul\0"}},
        {"headers": {"X-Env": ["fine", "not\nfine"]}},
        {"headers": {"X-Env": "x" * 901}},
        {"headers": {"X Env": "prod"}},
        {"headers": {"X-Env:": "prod"}},
        {"headers": {"": "prod"}},
        {"headers": {"From": "eve@evil.example"}},
        {"headers": {"bcc": "eve@evil.example"}},
        {"headers": {"content-type": "text/plain"}},
        {"headers": {"List-Unsubscribe": "<https://evil.example>"}},
        {"connect_timeout": 0},
        {"mails_per_connection": 0},
        {"proxy": "gopher://proxy.acme.example"},
    ],
)
def test_invalid_settings_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"type": "smtp", "host": "smtp.acme.example"} | given)


@pytest.mark.parametrize(
    "given",
    [
        {"host": "203.0.113.1"},
        {"host": "2001:db8::1"},
        {"host": "bücher.example"},
        {"helo_name": "mail.acme.example"},
        {"helo_name": "localhost"},
        {"helo_name": "[203.0.113.9]"},
        {"helo_name": "[IPv6:2001:db8::1]"},
        {"local_address": "2001:db8::1"},
        {"headers": {"X-Env": "prod", "X-SES-CONFIGURATION-SET": "main", "X-Tag": ["a", "b"]}},
        {"from": "Acme <other@acme.example>"},
    ],
)
def test_valid_settings_are_accepted(given: dict[str, Any]) -> None:
    taken = Settings.model_validate({"type": "smtp", "host": "smtp.acme.example"} | given)
    assert taken.model_fields_set >= {name for name in given if name != "from"}


def test_an_invalid_ca_file_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ValidationError, match="ca_file"):
        Settings(host="smtp.acme.example", ca_file=tmp_path / "ca.pem")


def test_an_error_does_not_show_the_password() -> None:
    with pytest.raises(ValidationError) as fault:
        Settings.model_validate({"host": "smtp.acme.example", "password": "hunter22"})
    assert "hunter22" not in "".join(f"{error['loc']}: {error['msg']}" for error in fault.value.errors())


def test_secrets_may_be_set_by_variables_and_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the app's secret\n")
    (tmp_path / "proxy").write_text("socks5://mailroom:hunter22@proxy.acme.example\n")
    main = "MAILROOM_PROVIDERS__MAIN__"
    settings = load(
        environ={
            "MAILROOM_FROM": "no-reply@acme.example",
            "MAILROOM_SECRET_KEY": "k" * 40,
            "MAILROOM_CONNECTOR__AUTHORIZATION": "Bearer " + "a" * 40,
            f"{main}TYPE": "smtp",
            f"{main}PRESET": "gmail",
            f"{main}USERNAME": "ada@acme.example",
            f"{main}OAUTH2__CLIENT_ID": "app",
            f"{main}OAUTH2__CLIENT_SECRET_FILE": str(tmp_path / "secret"),
            f"{main}OAUTH2__REFRESH_TOKEN": "the consent",
            f"{main}PROXY_FILE": str(tmp_path / "proxy"),
            f"{main}DSN": "failure,delay",
        },
        config=None,
    )
    main_provider = settings.providers["main"]
    assert isinstance(main_provider, Settings)
    assert main_provider.oauth2 is not None
    assert main_provider.oauth2.client_secret is not None
    assert main_provider.oauth2.client_secret.get_secret_value() == "the app's secret"
    assert main_provider.proxy is not None
    assert main_provider.proxy.get_secret_value() == "socks5://mailroom:hunter22@proxy.acme.example"
    assert main_provider.dsn == ("failure", "delay")
    shown = f"{settings!r} {main_provider.model_dump_json()}"
    assert "the app's secret" not in shown
    assert "the consent" not in shown
    assert "hunter22" not in shown


def test_every_setting_is_described() -> None:
    """The documentation is generated from the descriptions."""
    for type_name in ("smtp", "capture"):
        for path, field in leaves(module_of(type_name).Settings):
            assert field.description or path == ("type",), path
