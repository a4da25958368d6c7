"""Logto's SMTP options, which are nodemailer's, become settings with the same meaning."""

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
    """Return the provider for Logto's default configuration, changed; None removes an option."""
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
def test_tls_is_what_nodemailer_would_use(options: dict[str, Any], tls: str) -> None:
    provider, made = imported(**options)
    assert provider.settings["tls"] == tls
    assert any("opportunistic" in note.text for note in made.notes) is (tls == "opportunistic")


@pytest.mark.parametrize("key", ["secure", "requireTLS", "ignoreTLS"])
def test_an_option_that_is_not_boolean_is_left_out(key: str) -> None:
    _, made = imported(**{key: "true"})
    assert reasons(made) == {key: "it is neither true nor false"}


def test_every_option_with_a_setting_is_imported_and_valid() -> None:
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
def test_user_and_password_are_imported_together_or_not_at_all(
    auth: Any, credentials: tuple[str, str], *, left: bool
) -> None:
    """In nodemailer the type `login` means user and password, not the mechanism LOGIN."""
    provider, made = imported(auth=auth)
    assert (provider.settings.get("username"), provider.secrets.get("password")) == credentials
    assert "auth" not in provider.settings
    assert bool(made.left_out) is left


def test_username_and_password_may_be_at_the_top_level() -> None:
    provider, made = imported(auth=None, username="u", password="p")
    assert (provider.settings["username"], dict(provider.secrets), made.left_out) == ("u", {"password": "p"}, [])


def test_oauth2_is_imported_completely() -> None:
    auth = {"type": "OAuth2", "user": "a@b.example", "clientId": "i", "clientSecret": "s", "refreshToken": "r"}
    provider, made = imported(auth=auth)
    assert made.left_out == []
    assert provider.settings["oauth2"] == {"client_id": "i", "access_url": "https://oauth2.googleapis.com/token"}
    assert provider.secrets == {"oauth2.client_secret": "s", "oauth2.refresh_token": "r"}


def test_a_service_accounts_key_has_to_be_put_into_a_file() -> None:
    encrypted = generate_private_key(65537, 2048).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open")
    )
    key = {"key": encrypted.decode(), "passphrase": "open"}
    provider, made = imported(auth={"type": "oauth2", "user": "a@b.example", "serviceClient": "c", "privateKey": key})
    assert provider.secrets == {"oauth2.passphrase": "open"}
    assert provider.settings["oauth2"]["scope"] == "https://mail.google.com/"
    assert "MAILROOM_PROVIDERS__MAIN__OAUTH2__PRIVATE_KEY_FILE" in made.left_out[0].remedy
    assert "BEGIN" not in str(made.left_out)


def test_an_access_token_alone_is_imported_with_a_note() -> None:
    provider, made = imported(auth={"type": "oauth2", "user": "a@b.example", "accessToken": "t"})
    assert provider.secrets == {"oauth2.access_token": "t"}
    assert any("ends soon" in note.text for note in made.notes)


def test_an_invalid_oauth2_table_is_left_out_completely() -> None:
    auth = {"type": "oauth2", "user": "a@b.example", "clientId": "i", "refreshToken": "r", "accessUrl": "ftp://x"}
    provider, made = imported(auth=auth)
    assert "oauth2" in reasons(made)
    assert not provider.secrets
    assert "oauth2" not in provider.settings


def test_servername_and_minimum_tls_version_are_imported() -> None:
    options = {"servername": "mx.acme.example", "tls": {"minVersion": "TLSv1.3"}, "auth": {}}
    provider, made = imported(**options)
    assert (provider.settings["servername"], provider.settings["tls_min_version"]) == ("mx.acme.example", "1.3")
    assert made.left_out == []


def test_options_without_a_setting_are_reported() -> None:
    _, made = imported(
        tls={"ca": "PEM", "ciphers": "x", "minVersion": "TLSv1.4"},
        pool=True,
        dkim={"privateKey": "geheim"},
        authMethod="NTLM",
    )
    assert set(reasons(made)) == {"tls.ca", "tls.ciphers", "tls.minVersion", "pool", "dkim", "authMethod"}
    assert all(left.remedy for left in made.left_out)
    assert "geheim" not in str(made)


def test_invalid_values_are_left_out_and_the_rest_is_imported() -> None:
    provider, made = imported(
        host="no host",
        name="not a name!",
        customHeaders={"Bcc": "x@y.example", "X-Env": "prod", "X-Tags": ["a", "b"], "X-Count": 3, "X-Evil": "a\r\nb"},
        localAddress="eth0",
        fromEmail="nobody",
    )
    assert set(reasons(made)) == {
        "host",
        "helo_name",
        "customHeaders.Bcc",
        "customHeaders.X-Count",
        "customHeaders.X-Evil",
        "local_address",
        "from",
    }
    assert provider.settings["headers"] == {"X-Env": "prod", "X-Tags": ["a", "b"]}
    assert provider.sender is None
    assert provider.settings["port"] == 587


def test_headers_that_are_no_object_are_left_out() -> None:
    provider, made = imported(customHeaders=["X-Env"])
    assert reasons(made) == {"customHeaders": "it is no JSON object"}
    assert "headers" not in provider.settings


@pytest.mark.parametrize("milliseconds", [500_000, -1, "x"])
def test_a_time_out_out_of_bounds_is_not_imported(milliseconds: Any) -> None:
    provider, made = imported(connectionTimeout=milliseconds)
    assert "connect_timeout" not in provider.settings
    assert any("connectionTimeout" in note.text for note in made.notes)


@pytest.mark.parametrize("reply_to", ["nobody", "a@b.example\r\nBcc: x@y.example", 5])
def test_an_invalid_reply_address_is_left_out(reply_to: Any) -> None:
    _, made = imported(replyTo=reply_to)
    assert made.plan.reply_to is None
    assert "replyTo" in reasons(made)


def test_a_sender_with_a_line_break_is_left_out() -> None:
    provider, made = imported(fromEmail="Acme\r\nBcc: x <a@b.example>")
    assert provider.sender is None
    assert "control character" in reasons(made)["from"]


def test_the_log_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    _, made = imported(auth={"user": "u", "pass": "two\nlines"}, host=5)
    assert "two" not in repr(made) + str(made.left_out) + caplog.text
