"""What README promises happens when its lines are typed."""

import asyncio
import os
import re
import sys
from pathlib import Path

import httpx
import pytest

from mailroom.config import load
from tests.e2e.harness import ROOT, Server
from tests.smtp_server import smtp_server

README = (ROOT / "README.md").read_text()
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    """Return the code blocks of a language."""
    return [text for name, text in _BLOCK.findall(README) if name == language]


async def typed(command: str, folder: Path, **environment: str) -> tuple[int | None, str]:
    """Type a command in a shell; return its exit code, and what it says."""
    process = await asyncio.create_subprocess_shell(
        command,
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def test_the_first_hour(tmp_path: Path) -> None:
    """All commands in their order, in one folder: a mail is captured, then another is sent by a real server.

    Replaced are the operator's: the SMTP server, by one on this machine with TLS and logins, and the port.
    """
    (tmp_path / ".venv").symlink_to(sys.prefix)
    run, curl, serve, send = blocks("sh")
    await see_a_mail(tmp_path, run, curl)
    users = {"acme": "a password with blanks"}
    async with smtp_server(tls="starttls", users=users) as smtp:
        (text,) = blocks("toml")
        for key, value in (("host", smtp.host), ("username", "acme"), ("password", users["acme"])):
            text, count = re.subn(rf'(?m)^{key} = "[^"]*"', f'{key} = "{value}"', text)
            assert count == 1
        (tmp_path / "mailroom.toml").write_text(f'{text}port = {smtp.port}\nca_file = "{smtp.ca_file}"\n')
        *commands, last = serve.splitlines()
        assert last == ".venv/bin/python server.py"
        shown = [await typed(command, tmp_path) for command in commands]
        assert [code for code, _ in shown] == [0, 0], shown
        assert "The settings are valid." in shown[1][1]

        async with Server(tmp_path, None) as server:
            code, said = await typed(send, tmp_path, MAILROOM_PORT=str(server.port))
            assert code == 0, said
            assert re.search(r"^sent by main: 250 2\.0\.0 Ok: queued as TEST0001$", said, re.MULTILINE)
            (mail,) = smtp.mails
            assert (mail.recipient, mail.user, mail.encrypted) == ("you@acme.example", "acme", True)
            header = re.search(r"Authorization Header .*:\n +(Bearer \S+)\n", shown[0][1])
            assert header, "Logto's requests are accepted with what keygen printed"
            async with httpx.AsyncClient(base_url=server.url, trust_env=False) as logto:
                body = {"to": "ada@example.com", "type": "SignIn", "payload": {"code": "329452"}}
                answer = await logto.post("/email", json=body, headers={"authorization": header[1]})
                assert answer.status_code == httpx.codes.OK
            await smtp.received(2)


async def see_a_mail(folder: Path, run: str, curl: str) -> None:
    """`make run`, the curl, the page: the mail is there with its code."""
    makefile = (ROOT / "Makefile").read_text()
    assert run == "make run\n"
    assert "run: setup\n\t$(BIN)/python server.py --dev\n" in makefile

    async with Server(folder, None, arguments=["--dev"]) as server:
        command = curl.replace("localhost:8000", f"localhost:{server.port}").strip()
        code, said = await typed(f"{command} --silent --show-error --fail-with-body --noproxy '*'", folder)
        assert code == 0, said
        assert re.fullmatch(r'\{"id": ?"[0-9a-f-]{36}"\}', said)

        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as browser, asyncio.timeout(10):
            while "ada@example.com" not in (page := (await browser.get("/console/captured")).text):
                pass  # it is kept before it is caught, a few milliseconds apart
        assert "329452" in page


def test_the_variables_are_variables(tmp_path: Path) -> None:
    """Those that are named in the text reach the settings that they are named for."""
    named = re.findall(r"MAILROOM_[A-Z_]+", README)
    assert named
    (tmp_path / "key").write_text("a-secret-of-more-than-thirty-two-characters\n")
    values = {
        "MAILROOM_FROM": "Acme <no-reply@acme.example>",
        "MAILROOM_CONNECTOR__AUTHORIZATION": "Bearer of a long text",
        "MAILROOM_PROVIDERS__MAIN__PASSWORD": "a password",
        "MAILROOM_SECRET_KEY_FILE": str(tmp_path / "key"),
    }
    assert set(named) == set(values)
    rest = {"TYPE": "smtp", "HOST": "smtp.acme.example", "USERNAME": "acme"}
    values |= {f"MAILROOM_PROVIDERS__MAIN__{name}": value for name, value in rest.items()}
    (tmp_path / "mailroom.toml").touch()

    settings = load(environ=values, config=tmp_path / "mailroom.toml")

    assert settings.sender.name == "Acme"
    assert settings.connector.authorization[0].get_secret_value() == "Bearer of a long text"


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`?make (\w+)`?$|`make (\w+)`", README, re.MULTILINE))))
def test_every_target_is_there(target: tuple[str, str]) -> None:
    """`make …` as the text says it."""
    assert re.search(rf"^{''.join(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", re.findall(r"\]\(((?!https?:)[^)]+)\)", README))
def test_every_link_leads_somewhere(path: str) -> None:
    """Files beside the README."""
    assert (ROOT / path).is_file()


def test_the_first_screen_is_one_screen() -> None:
    """The two commands come before line 30."""
    assert README[: README.index("## Send real ones")].count("\n") < 30
