"""Connectors become providers."""

from typing import Any

import pytest

from tests.importing.parts import OWN, config, plan_all, planned, reasons, row, template_row


def test_an_unknown_key_is_named_without_its_value() -> None:
    made = planned({**config("aws-ses"), "sessionToken": "geheim"})
    assert reasons(made) == {"sessionToken": "Mailroom has no such setting"}
    assert "geheim" not in str(made)


def test_a_template_stored_at_mailgun_becomes_a_setting_without_logtos_additions() -> None:
    deliveries: dict[str, Any] = {
        "SignIn": {"template": "logto-sign-in", "subject": "Hi", "variables": {"bar": "baz"}},
        "Register": {"template": "logto-register"},
        "Nonsense": {"template": "x"},
        "Generic": {"template": 5},
        "ForgotPassword": {"subject": "s", "html": "h"},
    }
    made = planned({**config("mailgun"), "deliveries": deliveries})
    assert made.providers[0].settings["templates"] == {"SignIn": "logto-sign-in", "Register": "logto-register"}
    assert [(left.source, left.what) for left in made.left_out] == [
        ("given.json: deliveries.SignIn", "subject"),
        ("given.json: deliveries.SignIn", "variables"),
        ("given.json", "template at the provider"),
        ("given.json", "template at the provider"),
    ]
    assert {file.kind for file in made.files} == {"ForgotPassword"}


def test_a_connector_without_a_sender_is_reported() -> None:
    made = planned({key: value for key, value in config("aws-ses").items() if key != "emailAddress"})
    assert reasons(made) == {"from": "the connector has no emailAddress"}


def test_the_display_name_in_a_senders_address_is_used() -> None:
    assert (
        planned({**config("sendgrid-email"), "fromEmail": "A <a@b.example>"}).providers[0].sender == "A <a@b.example>"
    )


def test_several_connectors_become_providers_with_different_names() -> None:
    documents = [(name, row(name)) for name in ("smtp", "aws-ses", "smtp", "smtp")]
    made = plan_all(documents, name="relay")
    assert [provider.name for provider in made.providers] == ["relay", "ses", "smtp", "smtp-2"]


def test_only_one_reply_address_becomes_the_general_one() -> None:
    other = {**config("smtp"), "replyTo": "other@acme.example"}
    made = plan_all([("a", row("smtp")), ("b", row("smtp")), ("c", other)])
    assert made.plan.reply_to == "help@acme.example"
    assert [(left.source, left.what) for left in made.left_out if left.what == "replyTo"] == [("c", "replyTo")]


@pytest.mark.parametrize("name", OWN)
def test_every_setting_of_logtos_defaults_is_valid_for_our_provider(name: str) -> None:
    made = planned(row(name))
    assert made.left_out == []


@pytest.mark.parametrize("value", [None, 5, [], {"a": []}, True, "x\ny", "\ud800", "\x1b[2J"], ids=repr)
@pytest.mark.parametrize("name", OWN)
def test_no_value_of_any_key_raises(name: str, value: Any) -> None:
    """Invalid values are left out; nothing raises, and all texts are printable."""
    for key in [*config(name), "unknown", "tls", "servername", "customHeaders", "name", "\ud800"]:
        made = planned([{**row(name), "config": {**config(name), key: value}}, template_row()])
        assert "SignIn/logto/fr-CA.html" in {file.path for file in made.files}
        for left in made.left_out:
            (left.source + left.what + left.why + left.remedy).encode()
        for provider in made.providers:
            assert provider.sender is None or provider.sender.isprintable()
            repr(dict(provider.settings)).encode()
