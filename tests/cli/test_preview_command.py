"""`mailroom preview`."""

import json
import signal
from email import message_from_bytes, policy
from pathlib import Path
from threading import Thread
from urllib.request import Request, urlopen

import pytest

from mailroom.cli import preview_command
from tests.cli.conftest import SETTINGS, Operator


def test_mails_are_written_to_files_with_an_index(operator: Operator) -> None:
    result = operator.run("preview", "SignIn", "Welcome", "--locale", "en", "--locale", "ar")
    assert result.exit_code == 0, result.output
    assert "4 mails: previews/index.html" in result.output
    endings = ("eml", "html", "txt")
    names = [f"{kind}.{tag}.full" for kind in ("SignIn", "Welcome") for tag in ("ar", "en")]
    mails = [f"{name}.{ending}" for name in names for ending in endings]
    assert sorted(file.name for file in Path("previews").iterdir()) == [*mails, "index.html"]
    mail = message_from_bytes(Path("previews/SignIn.en.full.eml").read_bytes(), policy=policy.default)
    assert mail["Subject"] == "314159 is your Lighthouse sign-in code"
    assert "314159 is your Lighthouse sign-in code" in Path("previews/index.html").read_text()


def test_the_sample_payload_can_be_chosen(operator: Operator) -> None:
    result = operator.run("preview", "Generic", "--locale", "de", "--sample", "hostile", "--out", "seen")
    assert result.exit_code == 0, result.output
    assert "&lt;x-probe" in Path("seen/Generic.de.hostile.html").read_text()
    assert "<x-probe" not in Path("seen/index.html").read_text()


@pytest.mark.parametrize(("word", "report"), [("SingIn", "there is no kind"), ("--locale=xx", "there is no language")])
def test_unknown_kinds_and_languages_are_usage_errors(operator: Operator, word: str, report: str) -> None:
    result = operator.run("preview", word)
    assert result.exit_code == 2
    assert report in result.output


def test_the_page_is_served_on_loopback(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a real socket, on a free port."""
    seen: list[str] = []

    def opened(port: int) -> None:
        Thread(target=visit, args=(f"http://127.0.0.1:{port}/",)).start()

    def visit(address: str) -> None:
        try:
            with urlopen(address) as page:
                seen.append(page.headers["content-security-policy"])
            body = json.dumps({"kind": "Welcome", "language": "fr", "sample": "minimal"}).encode()
            with urlopen(Request(f"{address}view", body, {"content-type": "application/json"})) as response:
                seen.append(json.loads(response.read())["subject"])
        finally:
            signal.raise_signal(signal.SIGINT)  # Ctrl-C

    monkeypatch.setattr(preview_command, "_announce", opened)
    result = operator.run("preview", "--open")
    assert result.exit_code == 0, result.output
    assert "script-src 'nonce-" in seen[0]
    assert seen[1] == "Bienvenue sur Acme"


def test_the_mails_of_one_organization_are_shown(operator: Operator) -> None:
    words = Path("mine/organizations/org1/locales/en.toml")
    words.parent.mkdir(parents=True)
    words.write_text('[SignIn]\nsubject = "{code} for the choir of the {organization}, its friends, and all others"\n')
    Path("mailroom.toml").write_text('templates = "mine"\n' + SETTINGS)
    arguments = ("preview", "SignIn", "--locale", "en")
    result = operator.run(*arguments, "--for", "organizations/org1", "--json")
    assert result.exit_code == 0, result.output
    [row] = json.loads(result.output)
    assert row["subject"].startswith("314159 for the choir of the Lighthouse")
    assert (5, "mine/organizations/org1/locales/en.toml", 2) in {
        (one["check"], one["file"], one["line"]) for one in row["findings"]
    }
    [row] = json.loads(operator.run(*arguments, "--json").output)
    assert (row["subject"], row["findings"]) == ("314159 is your Lighthouse sign-in code", [])
    result = operator.run(*arguments, "--for", "applications/org1")
    assert result.exit_code == 2
    assert "there is no folder 'applications/org1'; there are organizations/org1" in result.output


def test_an_unknown_owner_is_a_usage_error(operator: Operator) -> None:
    result = operator.run("preview", "--for", "applications/app1")
    assert result.exit_code == 2
    assert "there is no folder 'applications/app1'; there are none" in result.output
