"""Each connector's default configuration, from its npm package, is imported completely."""

import tomllib

import pytest

from mailroom.logto import MESSAGE_TYPES
from tests.importing.parts import OWN, config, contents, planned, row


@pytest.mark.parametrize("name", [name for name in OWN if name not in ("postmark", "mailgun")])
def test_every_template_becomes_files_with_the_same_content(name: str) -> None:
    made = planned(row(name))
    files = contents(made.files)
    templates = config(name)["templates"]
    assert {template["usageType"] for template in templates} == set(MESSAGE_TYPES)
    for template in templates:
        content_type = template.get("contentType", template.get("type"))
        stem = f"{template['usageType']}/logto/default"
        described = tomllib.loads(files.pop(f"{stem}.toml").decode())
        assert described.pop("subject") == template["subject"]
        assert described == ({"content_type": content_type} if content_type else {})
        ending = "txt" if content_type == "text/plain" else "html"
        assert files.pop(f"{stem}.{ending}") == template["content"].encode()
    assert files == {}


def test_every_delivery_of_mailgun_becomes_files() -> None:
    made = planned(row("mailgun"))
    files = contents(made.files)
    for kind, delivery in config("mailgun")["deliveries"].items():
        assert tomllib.loads(files.pop(f"{kind}/logto/default.toml").decode()) == {"subject": delivery["subject"]}
        assert files.pop(f"{kind}/logto/default.html") == delivery["html"].encode()
    assert files == {}


def test_postmarks_aliases_become_a_setting() -> None:
    made = planned(row("postmark"))
    assert made.files == ()
    [provider] = made.providers
    assert provider.settings["templates"] == {
        template["usageType"]: template["templateAlias"] for template in config("postmark")["templates"]
    }


@pytest.mark.parametrize("name", OWN)
def test_nothing_is_left_out_and_secrets_are_separate(name: str) -> None:
    made = planned(row(name))
    assert made.left_out == []
    [provider] = made.providers
    assert (provider.name, provider.settings["type"]) == ("main", OWN[name])
    assert list(provider.secrets) == {
        "smtp": ["password"],
        "aws-ses": ["access_key_secret"],
        "aliyun-dm": ["access_key_secret"],
        "postmark": ["server_token"],
    }.get(name, ["api_key"])
    assert not any(secret in repr(provider.settings) for secret in provider.secrets.values())


@pytest.mark.parametrize("name", OWN)
def test_a_bare_configuration_is_recognized_by_its_shape(name: str) -> None:
    assert planned(config(name)) == planned(row(name))


@pytest.mark.parametrize(
    ("name", "sender"),
    [
        ("smtp", "Acme <no-reply@acme.example>"),
        ("sendgrid-email", "Acme <no-reply@acme.example>"),
        ("aws-ses", "no-reply@acme.example"),
        ("mailgun", "Acme <no-reply@acme.example>"),
        ("aliyun-dm", "Acme <no-reply@acme.example>"),
        ("postmark", "no-reply@acme.example"),
        ("smtp2go-email", "Acme <no-reply@acme.example>"),
        ("mailjunky", "Acme <no-reply@acme.example>"),
    ],
)
def test_the_connectors_sender_is_imported(name: str, sender: str) -> None:
    assert planned(row(name)).providers[0].sender == sender


def test_settings_have_logtos_names_in_snake_case() -> None:
    settings = {name: dict(planned(row(name)).providers[0].settings) for name in ("aws-ses", "mailgun", "aliyun-dm")}
    assert settings == {
        "aws-ses": {
            "type": "ses",
            "access_key_id": "AKIAMADEUPMADEUPMADE",
            "region": "eu-central-1",
            "configuration_set_name": "codes",
        },
        "mailgun": {"type": "mailgun", "endpoint": "https://api.eu.mailgun.net", "domain": "mg.acme.example"},
        "aliyun-dm": {"type": "aliyun", "access_key_id": "LTAImadeup", "region": "ap-southeast-1"},
    }
