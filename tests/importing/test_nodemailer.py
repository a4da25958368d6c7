"""Logto's SMTP options, which are nodemailer's, mean the same here."""

import logging
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from mailroom.config.fields import fields_by_name
from mailroom.importing.plan import ProviderPlan
from mailroom.providers.smtp.smtp_provider import Settings
from tests.importing.parts import Imported, config, planned, reasons


def imported(**over: Any) -> tuple[ProviderPlan, Imported]:
    """Return the provider for Logto's default configuration, changed; None takes an option out."""
    changed = {key: value for key, value in {**config("smtp"), **over}.items() if value is not None}
    made = planned(changed)
    return made.providers[0], made


@pytest.mark.parametrize(
    ("options", "tls"),
    [
        ({"secure": True, "port": 465}, "implicit"),
        ({"secure": True, "requireTLS": True, "ignoreTLS": True}, "implicit"),
        ({"secure": None, "port": 465}, "implicit"),  # nodemailer's rule
        ({"secure": False, "requireTLS": True}, "starttls"),
        ({"secure": False, "requireTLS": True, "ignoreTLS": True}, "none"),
        ({"secure": False, "ignoreTLS": True}, "none"),
        ({"secure": False}, "opportunistic"),
    ],
)
def test_encryption_is_what_nodemailer_would_do(options: dict[str, Any], tls: str) -> None:
    provider, made = imported(**options)
    assert provider.settings["tls"] == tls
    assert any("opportunistic" in note.text for note in made.notes) is (tls == "opportunistic")


@pytest.mark.parametrize("key", ["secure", "requireTLS", "ignoreTLS"])
def test_a_switch_that_is_neither_on_nor_off_is_left_out(key: str) -> None:
    _, made = imported(**{key: "true"})
    assert reasons(made) == {key: "it is neither true nor false"}


def test_every_option_with_a_counterpart_comes_over_and_is_valid() -> None:
    provider, made = imported(
        name="mail.acme.example",
        localAddress="203.0.113.9",
        customHeaders={"X-Env": "prod", "X-Tags": ["a", "b"]},
        connectionTimeout=20_000,
        tls={"rejectUnauthorized": False, "minVersion": "TLSv1.2"},
        requireTLS=True,
        authMethod="LOGIN",
        port="2525",
    )
    assert made.left_out == []
    assert provider.settings == {
        "type": "smtp",
        "host": "smtp.acme.example",
        "port": 2525,
        "tls": "starttls",
        "tls_verify": False,
        "helo_name": "mail.acme.example",
        "local_address": "203.0.113.9",
        "headers": {"X-Env": "prod", "X-Tags": ["a", "b"]},
        "connect_timeout": 20,
        "auth": "login",
        "username": "acme",
    }
    assert provider.settings.keys() | provider.secrets.keys() <= fields_by_name(Settings).keys()
    Settings.model_validate({**provider.settings, **provider.secrets})


@pytest.mark.parametrize(
    ("auth", "credentials", "left"),
    [
        ({"user": "u", "pass": "p", "type": "LOGIN"}, ("u", "p"), False),
        ({"user": "u", "pass": "p"}, ("u", "p"), False),
        ({}, (None, None), False),
        ({"user": "u"}, (None, None), True),
        ({"user": "u", "pass": 5}, (None, None), True),
        ({"user": "u", "pass": "p", "type": "custom"}, ("u", "p"), True),
        ("user:pass", (None, None), True),
    ],
)
def test_name_and_password_come_together_or_not_at_all(auth: Any, credentials: tuple[str, str], left: bool) -> None:  # noqa: FBT001 - a table's column
    """Type `login` is nodemailer's word for name and password, not for the mechanism LOGIN."""
    provider, made = imported(auth=auth)
    assert (provider.settings.get("username"), provider.secrets.get("password")) == credentials
    assert "auth" not in provider.settings
    assert bool(made.left_out) is left


def test_the_configuration_of_2022_had_them_at_its_top() -> None:
    provider, made = imported(auth=None, username="u", password="p")
    assert (provider.settings["username"], dict(provider.secrets), made.left_out) == ("u", {"password": "p"}, [])


def test_oauth2_is_taken_over_whole() -> None:
    auth = {"type": "OAuth2", "user": "a@b.example", "clientId": "i", "clientSecret": "s", "refreshToken": "r"}
    provider, made = imported(auth=auth)
    assert made.left_out == []
    assert provider.settings["oauth2"] == {"client_id": "i", "access_url": "https://oauth2.googleapis.com/token"}
    assert provider.secrets == {"oauth2.client_secret": "s", "oauth2.refresh_token": "r"}


def test_a_service_accounts_key_has_lines_and_goes_to_a_file() -> None:
    encrypted = generate_private_key(65537, 2048).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open")
    )
    key = {"key": encrypted.decode(), "passphrase": "open"}
    provider, made = imported(auth={"type": "oauth2", "user": "a@b.example", "serviceClient": "c", "privateKey": key})
    assert provider.secrets == {"oauth2.passphrase": "open"}
    assert provider.settings["oauth2"]["scope"] == "https://mail.google.com/"
    assert "MAILROOM_PROVIDERS__MAIN__OAUTH2__PRIVATE_KEY_FILE" in made.left_out[0].remedy
    assert "BEGIN" not in str(made.left_out)


def test_an_access_token_alone_is_taken_with_a_warning() -> None:
    provider, made = imported(auth={"type": "oauth2", "user": "a@b.example", "accessToken": "t"})
    assert provider.secrets == {"oauth2.access_token": "t"}
    assert any("ends soon" in note.text for note in made.notes)


def test_a_grant_that_would_be_refused_is_left_out_whole() -> None:
    auth = {"type": "oauth2", "user": "a@b.example", "clientId": "i", "refreshToken": "r", "accessUrl": "ftp://x"}
    provider, made = imported(auth=auth)
    assert "oauth2" in reasons(made)
    assert not provider.secrets
    assert "oauth2" not in provider.settings


def test_the_certificates_name_and_the_oldest_tls_come_over_where_there_are_settings() -> None:
    options = {"servername": "mx.acme.example", "tls": {"minVersion": "TLSv1.3"}, "auth": {}}
    provider, made = imported(**options)
    assert (provider.settings["servername"], provider.settings["tls_min_version"]) == ("mx.acme.example", "1.3")
    assert made.left_out == []


def test_what_has_no_counterpart_is_named() -> None:
    _, made = imported(
        tls={"ca": "PEM", "ciphers": "x", "minVersion": "TLSv1.4"},
        pool=True,
        dkim={"privateKey": "geheim"},
        authMethod="CRAM-MD5",
    )
    assert set(reasons(made)) == {"tls.ca", "tls.ciphers", "tls.minVersion", "pool", "dkim", "authMethod"}
    assert all(left.remedy for left in made.left_out)
    assert "geheim" not in str(made)


def test_what_mailroom_would_refuse_is_left_out_and_the_rest_stays() -> None:
    provider, made = imported(
        host="no host",
        name="not a name!",
        customHeaders={"Bcc": "x@y.example"},
        localAddress="eth0",
        fromEmail="nobody",
    )
    assert set(reasons(made)) == {"host", "helo_name", "headers", "local_address", "from"}
    assert provider.sender is None
    assert provider.settings["port"] == 587


@pytest.mark.parametrize("milliseconds", [500_000, -1, "x"])
def test_a_time_out_that_is_out_of_bounds_stays_ours(milliseconds: Any) -> None:
    provider, made = imported(connectionTimeout=milliseconds)
    assert "connect_timeout" not in provider.settings
    assert any("connectionTimeout" in note.text for note in made.notes)


@pytest.mark.parametrize("reply_to", ["nobody", "a@b.example\r\nBcc: x@y.example", 5])
def test_a_reply_address_is_one_or_is_left_out(reply_to: Any) -> None:
    _, made = imported(replyTo=reply_to)
    assert made.plan.reply_to is None
    assert "replyTo" in reasons(made)


def test_a_line_break_in_the_sender_gets_nowhere() -> None:
    provider, made = imported(fromEmail="Acme\r\nBcc: x <a@b.example>")
    assert provider.sender is None
    assert "control character" in reasons(made)["from"]


def test_no_secret_is_shown_by_what_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    _, made = imported(auth={"user": "u", "pass": "two\nlines"}, host=5)
    assert "two" not in repr(made) + str(made.left_out) + caplog.text
