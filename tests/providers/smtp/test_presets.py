"""Presets: a vendor's host, port and encryption; given settings override them; unusable logins are refused."""

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from mailroom.config import load
from mailroom.errors import SettingsError
from mailroom.message import Address
from mailroom.providers.smtp.presets import PRESETS, Name
from mailroom.providers.smtp.smtp_provider import Settings

KEY = {"password": "hunter22"}
ADA = {"username": "ada@acme.example", "password": "hunter22"}


@pytest.mark.parametrize(
    ("given", "host", "port", "tls", "username"),
    [
        ({"preset": "gmail", **ADA}, "smtp.gmail.com", 587, "starttls", "ada@acme.example"),
        ({"preset": "outlook", **ADA}, "smtp.office365.com", 587, "starttls", "ada@acme.example"),
        ({"preset": "sendgrid", **KEY}, "smtp.sendgrid.net", 587, "starttls", "apikey"),
        ({"preset": "resend", **KEY}, "smtp.resend.com", 587, "starttls", "resend"),
        ({"preset": "brevo", **ADA}, "smtp-relay.brevo.com", 587, "starttls", "ada@acme.example"),
        ({"preset": "postmark", **KEY}, "smtp.postmarkapp.com", 587, "starttls", "hunter22"),
        ({"preset": "mailgun", **ADA}, "smtp.mailgun.org", 587, "starttls", "ada@acme.example"),
        ({"preset": "mailgun", "region": "eu", **ADA}, "smtp.eu.mailgun.org", 587, "starttls", "ada@acme.example"),
        ({"preset": "aliyun", **ADA}, "smtpdm.aliyun.com", 465, "implicit", "ada@acme.example"),
        (
            {"preset": "ses", "region": "eu-west-1", **ADA},
            *("email-smtp.eu-west-1.amazonaws.com", 587, "starttls", "ada@acme.example"),
        ),
    ],
)
def test_a_preset_sets_the_server(given: dict[str, Any], host: str, port: int, tls: str, username: str) -> None:
    settings = Settings(**given)
    assert (settings.host, settings.port, settings.tls, settings.username) == (host, port, tls, username)


def test_every_preset_has_a_name() -> None:
    assert set(PRESETS) == set(get_args(Name))


@pytest.mark.parametrize(
    ("given", "host", "port", "tls"),
    [
        ({"port": 2525}, "smtp.sendgrid.net", 2525, "starttls"),
        ({"port": 465, "tls": "implicit"}, "smtp.sendgrid.net", 465, "implicit"),
        ({"tls": "implicit"}, "smtp.sendgrid.net", 465, "implicit"),
        ({"host": "relay.acme.example"}, "relay.acme.example", 587, "starttls"),
    ],
)
def test_given_settings_override_the_preset(given: dict[str, Any], host: str, port: int, tls: str) -> None:
    settings = Settings(preset="sendgrid", **KEY, **given)
    assert (settings.host, settings.port, settings.tls) == (host, port, tls)


@pytest.mark.parametrize(
    ("preset", "given", "concurrency"), [("outlook", {}, 3), ("postmark", {}, 10), ("outlook", {"concurrency": 1}, 1)]
)
def test_a_preset_knows_how_many_connections_the_vendor_allows(
    preset: str, given: dict[str, Any], concurrency: int
) -> None:
    settings = Settings.model_validate({"preset": preset, **(KEY if preset == "postmark" else ADA), **given})
    assert settings.concurrency == concurrency


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"preset": "sendgrid", **ADA}, "'apikey'"),
        ({"preset": "resend", **ADA}, "'resend'"),
        ({"preset": "ses", **ADA}, "region"),
        ({"preset": "ses", "region": "eu-west-1", "username": "AKIA", "password": "s" * 40}, "SMTP credentials"),
        ({"preset": "ses", "region": "eu-west-1.evil.example", **ADA}, "region"),
        ({"preset": "mailgun", "region": "cn", **ADA}, "us, eu"),
        ({"preset": "gmail", "region": "eu", **ADA}, "no regions"),
        ({"preset": "gmail", "username": "ada", "password": "p"}, "whole address"),
        ({"host": "smtp.acme.example", "region": "eu"}, "preset"),
        ({"preset": "hotmail"}, "preset"),
        ({}, "host"),
        ({"host": "smtp.acme.example", "auth": "oauth2"}, "oauth2"),
        ({"preset": "gmail", **ADA, "oauth2": {"access_token": "t"}}, "takes the place"),
        ({"preset": "gmail", "oauth2": {"access_token": "t"}}, "needs a username"),
        (
            {"preset": "outlook", "username": "a@b.example", "oauth2": {"client_id": "a", "client_secret": "b"}},
            "access_url",
        ),
        ({"host": "smtp.acme.example", "client_key": "key.pem"}, "client_certificate"),
        ({"host": "smtp.acme.example", "client_certificate": "/nowhere.pem"}, "client_certificate"),
    ],
)
def test_settings_that_the_vendor_would_refuse_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Settings.model_validate(given)


@pytest.mark.parametrize(
    ("given", "url", "scope"),
    [
        ({"preset": "gmail"}, "https://oauth2.googleapis.com/token", "https://mail.google.com/"),
        ({"preset": "gmail", "url": "https://login.example/t"}, "https://login.example/t", "https://mail.google.com/"),
        ({"preset": "outlook", "url": "https://login.example/t"}, "https://login.example/t", "https://outlook.office365.com/.default"),
    ],
)  # fmt: skip
def test_a_preset_sets_the_token_endpoint_and_scope(given: dict[str, Any], url: str, scope: str) -> None:
    oauth2 = {"client_id": "a", "client_secret": "b", "refresh_token": "c", "access_url": given.pop("url", None)}
    settings = Settings(username="ada@acme.example", oauth2=oauth2, **given)
    assert settings.oauth2
    assert (settings.oauth2.access_url, settings.oauth2.scope) == (url, scope)


def test_aliyun_accepts_mail_only_from_the_logins_address() -> None:
    """The server's 436 would come later, and is less clear."""
    settings = Settings(preset="aliyun", **ADA)
    assert not settings.inexpressible(Address("Ada@acme.example", "Acme"), None)
    assert "the same as username" in settings.inexpressible(Address("news@acme.example"), None)
    assert not Settings(preset="gmail", **ADA).inexpressible(Address("news@acme.example"), None)


@pytest.mark.parametrize(
    ("general", "own", "good"),
    [
        ("ada@acme.example", None, True),
        ("news@acme.example", None, False),
        ("news@acme.example", "Acme <ada@acme.example>", True),
    ],
)
def test_an_impossible_sender_is_refused_at_start(
    general: str,
    own: str | None,
    good: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    environ = {
        "MAILROOM_FROM": general,
        "MAILROOM_SECRET_KEY": "k" * 40,
        "MAILROOM_CONNECTOR__AUTHORIZATION": "Bearer " + "a" * 40,
        "MAILROOM_PROVIDERS__MAIN__TYPE": "smtp",
        "MAILROOM_PROVIDERS__MAIN__PRESET": "aliyun",
        "MAILROOM_PROVIDERS__MAIN__USERNAME": "ada@acme.example",
        "MAILROOM_PROVIDERS__MAIN__PASSWORD": "hunter22",
        "MAILROOM_PROVIDERS__MAIN__FROM": own or "",
    }
    if good:
        load(environ=environ)
    else:
        with pytest.raises(SettingsError, match=r"providers\.main: Aliyun"):
            load(environ=environ)
