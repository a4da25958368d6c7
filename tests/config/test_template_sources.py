"""The renderer that the settings describe."""

from pathlib import Path

import pytest

from mailroom import config
from mailroom.config import template_sources
from mailroom.config.model import Settings
from mailroom.errors import Fault, SettingsError
from mailroom.message import Address
from tests.rendering.overlays import render, write_files

SETTINGS = """
from = "Acme <no-reply@acme.example>"
secret_key = "0c6fbb1e2d6a4a4f9a87c7f8f9f0f6c1d2a3b4c5d6e7f8091a2b3c4d5e6f7081"
templates = "mine"
sender_domains = ["mail.acme.example", "bücher.example"]
[connector]
authorization = "Bearer test-token"
[providers.main]
type = "capture"
from = "other@backup.example"
"""
TEMPLATE = {
    "SignIn/logto/default.html": "{{code}}",
    "SignIn/logto/default.toml": 'subject = "x"\nsend_from = "{{user.id}}"',
}


def settings(place: Path, text: str = SETTINGS) -> Settings:
    file = place / "mailroom.toml"
    file.write_text(text, encoding="utf-8")
    return config.load(environ={}, config=file)


@pytest.mark.parametrize(
    ("sender", "is_allowed"),
    [
        ("team@acme.example", True),
        ("team@backup.example", True),
        ("team@mail.acme.example", True),
        ("team@xn--bcher-kva.example", True),
        ("team@bücher.example", True),
        ("team@other.acme.example", False),
    ],
)
def test_a_template_may_send_from_the_configured_domains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sender: str, *, is_allowed: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path / "mine", TEMPLATE)
    faults: list[Fault] = []
    renderer = template_sources.build_renderer(settings(tmp_path), on_fault=faults.append)
    email = render(renderer, user={"id": sender}, sender=Address("no-reply@acme.example"))
    assert (email.sender.email.partition("@")[0] == "team") == is_allowed
    assert bool(faults) != is_allowed


def test_sender_domains_must_be_domains(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"sender_domains\[0\]: write a domain"):
        settings(tmp_path, SETTINGS.replace("mail.acme.example", "team@acme.example"))
