"""The settings' model, and the example files."""

import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from pydantic import BaseModel, ValidationError

from mailroom import providers
from mailroom.config import load
from mailroom.config.fields import fields_by_name, leaves, table_of
from mailroom.config.model import EventRule, Lifetimes, Limits, Settings, Webhook
from mailroom.config.setting_rows import duration_text
from mailroom.errors import SettingsError
from mailroom.outbox.limits import RateLimit
from mailroom.providers import Rate
from mailroom.providers.capture import Settings as Capture

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("30s", timedelta(seconds=30)),
        ("1.5m", timedelta(seconds=90)),
        ("24h", timedelta(days=1)),
        (" 7 d ", timedelta(days=7)),
        ("0", timedelta(0)),
        (0, timedelta(0)),
        (timedelta(hours=2), timedelta(hours=2)),
    ],
)
def test_durations_have_a_unit(text: Any, duration: timedelta) -> None:
    assert Webhook(max_age=text).max_age == duration


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        10,
        10.5,
        True,
        False,
        None,
        "-1s",
        "1 week",
        "1h30m",
        "s",
        "²s",
        "٣m",
        "1e3s",
        "nan s",
        "9" * 9 + "d",
        [],
    ],
)
def test_an_invalid_duration_is_refused(text: Any) -> None:
    with pytest.raises(ValidationError):
        Webhook(max_age=text)


@pytest.mark.parametrize("text", ["250ms", "90s", "10m", "1h", "24h", "7d", "0"])
def test_a_duration_can_be_written_and_read_back(text: Any) -> None:
    duration = Webhook(max_age=text).max_age
    assert Webhook(max_age=duration_text(duration)).max_age == duration


@pytest.mark.parametrize(
    ("text", "rate"),
    [("14/s", Rate(14, 1)), ("500/m", Rate(500, 60)), ("1000/h", Rate(1000, 3600)), ("50000/d", Rate(50000, 86400))],
)
def test_a_rate_is_a_number_of_mails_in_a_unit_of_time(text: str, rate: Rate) -> None:
    """Of every provider."""
    settings = Capture.model_validate({"type": "capture", "rate": text, "quota": text})
    assert settings.rate == settings.quota == rate


@pytest.mark.parametrize(
    "text", ["", "14", 14, 14.5, True, "0/s", "-1/s", "1.5/s", "14/w", "14/S", "14 /s", "٣/s", "/s"]
)
@pytest.mark.parametrize("setting", ["rate", "quota"])
def test_what_is_no_rate_is_refused(setting: str, text: Any) -> None:
    with pytest.raises(ValidationError, match=r'"14/s", "500/m", "1000/h" or "50000/d"'):
        Capture.model_validate({"type": "capture", setting: text})


def test_an_event_is_a_template_or_a_table() -> None:
    webhook = Webhook.model_validate({"events": {"A": "Welcome", "B": {"template": "Hi", "only": "registration"}}})
    assert webhook.events == {"A": EventRule(template="Welcome"), "B": EventRule(template="Hi", only="registration")}


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        (
            {"User.Data.Updated:name": "Hi"},
            "User.Data.Updated:name is not known; known are User.Data.Updated:password, ",
        ),
        (
            {"User.Data.Updated": "PasswordChanged"},
            "PasswordChanged is sent by PostResetPassword and User.Data.Updated:password, not by User.Data.Updated",
        ),
        ({"PostSignIn": "AccountLocked"}, "AccountLocked is sent by Identifier.Lockout, not by PostSignIn"),
    ],
)
def test_a_notice_is_sent_by_its_event_only(events: dict[str, str], problem: str) -> None:
    """Else every new name of a user would be told as a new password."""
    with pytest.raises(ValidationError, match=problem):
        Webhook.model_validate({"events": events})


@pytest.mark.parametrize("template", ["", "../etc", "a/b", ".hidden", "a b", "x" * 65])
def test_a_template_s_name_cannot_be_a_path(template: str) -> None:
    with pytest.raises(ValidationError):
        EventRule(template=template)


def test_settings_are_immutable() -> None:
    with pytest.raises(ValidationError):
        Lifetimes().code = timedelta(hours=1)  # type: ignore[misc]  # frozen


def test_secrets_are_not_shown() -> None:
    assert "hush" not in repr(Webhook.model_validate({"signing_keys": "hush"}))


def test_every_setting_is_described() -> None:
    described = [(path, field.description) for path, field in leaves()]
    for kind in providers.types():
        described += [(path, field.description) for path, field in leaves(providers.module_of(kind).Settings, (kind,))]
    assert [path for path, text in described if not text and path[-1] != "type"] == []


def _filled_in(example: str) -> str:
    """Replace the placeholders by secrets."""
    return re.sub(r"[Rr]eplace[- ]this[^\"\n@]*", "0123456789abcdef0123456789abcdef", example)


def test_the_example_file_loads(tmp_path: Path) -> None:
    file = tmp_path / "mailroom.toml"
    file.write_text(_filled_in((ROOT / "mailroom.example.toml").read_text()))
    settings = load(environ={}, config=file)
    assert settings.providers["main"].type == "smtp"


def test_the_example_file_shows_every_setting_with_a_valid_value(tmp_path: Path) -> None:
    """With the commented settings, too."""
    uncommented = re.sub(
        r'(?m)^# (?=\[|[a-z_"].*? = |[A-Z][A-Za-z]+ = )', "", (ROOT / "mailroom.example.toml").read_text()
    )
    everything = tmp_path / "mailroom.toml"
    everything.write_text(_with_files(_filled_in(uncommented), tmp_path))
    load(environ={}, config=everything)
    tree = tomllib.loads(uncommented)
    smtp = providers.module_of("smtp").Settings
    assert _missing(Settings, tree) == []
    together: dict[str, Any] = {}  # some settings take the place of others
    for table in tree["providers"].values():
        together |= table | {"oauth2": together.get("oauth2", {}) | table.get("oauth2", {})}
    assert _missing(smtp, together) == []


def _with_files(example: str, directory: Path) -> str:
    """Replace files and keys of the example by real ones."""
    import trustme  # noqa: PLC0415 - for this alone

    authority = trustme.CA()
    ours = authority.issue_cert("mailroom.acme.example")
    rsa_key = generate_private_key(65537, 2048)
    for name, pem in {
        "/etc/ssl/certs/ca-certificates.crt": authority.cert_pem,
        "/etc/mailroom/client.pem": ours.cert_chain_pems[0],
        "/etc/mailroom/client.key": ours.private_key_pem,
    }.items():
        file = directory / Path(name).name
        pem.write_to_path(str(file))
        example = example.replace(name, str(file))
    for begin, encryption in {
        "-----BEGIN PRIVATE KEY-----": NoEncryption(),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----": BestAvailableEncryption(_filled_in("replace-this").encode()),
    }.items():
        text = rsa_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode()
        example = example.replace(f"{begin}…", text.replace("\n", "\\n"))
    return example


def _missing(model: type[BaseModel], tree: dict[str, Any]) -> list[str]:
    missing = []
    for name, field in fields_by_name(model).items():
        inner = table_of(field.annotation)
        if name not in tree:
            missing.append(name)
        elif inner is not None:
            missing += _missing(inner, tree[name])
    return missing


def test_the_example_variables_load() -> None:
    lines = _filled_in((ROOT / ".env.example").read_text()).splitlines()
    environ = dict(line.removeprefix("# ").split("=", 1) for line in lines if re.match(r"(# )?MAILROOM_\w+=", line))
    environ = {name: value for name, value in environ.items() if not name.endswith("_FILE")}
    settings = load(environ=environ)
    assert settings.sender.name == "Acme"
    assert settings.webhook.signing_keys


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("50/10m", RateLimit(50, 600)),
        (" 1 / 1s ", RateLimit(1, 1)),
        ("1000/h", RateLimit(1000, 3600)),
        ("100000/24h", RateLimit(100_000, 86400)),
        ("0", None),
        (0, None),
        (RateLimit(5, 60), RateLimit(5, 60)),
    ],
)
def test_a_limit_is_a_number_and_a_duration(text: Any, limit: RateLimit | None) -> None:
    assert Limits(recipient=text).recipient == limit


@pytest.mark.parametrize(
    "text", ["50", 50, "0/10m", "-1/1m", "50/0", "50/25h", "50/10", "1.5/1m", "", "a/1m", "5/500ms", []]
)
def test_what_is_no_limit_is_refused(text: Any) -> None:
    with pytest.raises(ValidationError):
        Limits(recipient=text)


def test_codes_must_be_stored_as_long_as_they_are_counted(tmp_path: Path) -> None:
    """What was purged is not counted."""
    file = tmp_path / "mailroom.toml"
    file.write_text('retention = "1h"\n[limits]\nrecipient = "50/2h"\n')
    with pytest.raises(SettingsError, match=r"limits\.recipient: its duration is longer than retention"):
        load(environ={}, config=file, dev=True)


def test_the_default_limits() -> None:
    """Well above Logto's own 10 in 10 minutes for a recipient; the others are observed only."""
    assert Limits() == Limits(recipient=RateLimit(50, 600), ip=None, recipient_domain=None, total=None)
    assert Webhook().event_limit == RateLimit(1000, 3600)
    assert Webhook(max_per_hour=0).event_limit is None
