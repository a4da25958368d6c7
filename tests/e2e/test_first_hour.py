"""What an operator runs in the first hour, besides README: honcho, and the command beside the systemd unit."""

import asyncio
import json
import os
import re
import shlex
import signal
import sys
from pathlib import Path

import httpx

from tests.e2e.harness import AUTHORIZATION, ROOT, SECRET_KEY, Server
from tests.ports import free_port
from tests.smtp_server import smtp_server

MAIL = {"to": "ada@example.com", "type": "SignIn", "payload": {"code": "329452"}}
_STARTS_WITHIN = 30.0


async def test_honcho_starts_what_the_examples_say(tmp_path: Path) -> None:
    """`.env.example`, filled in, is `.env`: honcho splits values at blanks that have no quotes."""
    for name in ("Procfile", "server.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    async with smtp_server(tls="starttls", users={"acme": "hunter22"}) as smtp:
        (tmp_path / ".env").write_text(
            _filled((ROOT / ".env.example").read_text(), smtp.host)
            + f"MAILROOM_PROVIDERS__MAIN__PORT={smtp.port}\nMAILROOM_PROVIDERS__MAIN__CA_FILE={smtp.ca_file}\n"
        )
        port = free_port()
        with (tmp_path / "log").open("wb") as log:
            honcho = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "honcho", "start", "-p", str(port)),
                cwd=tmp_path,
                env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
                stdout=log,
                stderr=log,
            )
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as logto:
                await _until_ready(logto)
                answer = await logto.post("/email", json=MAIL, headers={"authorization": AUTHORIZATION})
            assert answer.status_code == httpx.codes.OK, answer.text
            (mail,) = await smtp.received(1)
            assert b"From: Acme <no-reply@acme.example>" in mail.content
        finally:
            honcho.send_signal(signal.SIGTERM)
            await asyncio.wait_for(honcho.wait(), 30)


def _filled(text: str, host: str) -> str:
    values = {
        "MAILROOM_SECRET_KEY": SECRET_KEY,
        "MAILROOM_CONNECTOR__AUTHORIZATION": f'"{AUTHORIZATION}"',
        "MAILROOM_PROVIDERS__MAIN__HOST": host,
        "MAILROOM_PROVIDERS__MAIN__PASSWORD": "hunter22",
    }
    for name, value in values.items():
        text, count = re.subn(rf"(?m)^{name}=.*$", f"{name}={value}", text)
        assert count == 1
    return text


async def _until_ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(_STARTS_WITHIN):
        while True:
            try:
                if (await client.get("/readyz")).is_success:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.05)  # a port has no event


async def test_an_import_serves_after_the_commands_that_it_prints(tmp_path: Path) -> None:
    """The password, with a blank, is in `.env`, and nothing passes that file to the server but the server itself."""
    async with smtp_server(tls="starttls", users={"acme": "two words"}) as smtp:
        connector = {
            "host": smtp.host,
            "port": smtp.port,
            "auth": {"type": "login", "user": "acme", "pass": "two words"},
            "fromEmail": "Acme <no-reply@acme.example>",
            "tls": {"rejectUnauthorized": False},
            "templates": [
                {"usageType": "Generic", "contentType": "text/plain", "subject": "Hi", "content": "It is {{code}}."}
            ],
        }
        (tmp_path / "connector.json").write_text(json.dumps(connector))
        said = await _mailroom(tmp_path, "import", "connector.json")
        keygen, check, serve = (line.split()[1:] for line in said.partition("Next:\n")[2].splitlines())
        await _mailroom(tmp_path, *keygen)
        assert "The settings are valid." in await _mailroom(tmp_path, *check)
        assert serve == ["serve"]
        async with Server(tmp_path, None) as server:
            assert "sent by main" in await _mailroom(tmp_path, "send", "ada@example.com", "--url", server.url)
            (mail,) = smtp.mails
            assert mail.user == "acme"
            assert b"It is 000000." in mail.content


async def _mailroom(folder: Path, *words: str) -> str:
    """Run a command; return what it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mailroom", *words),
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_the_command_beside_the_unit_finds_its_settings_and_its_outbox(tmp_path: Path) -> None:
    """From any folder, without a look at the unit: what `deploy/mailroom` says is what the unit says.

    systemd itself does not run here: the test passes what `Environment=` and `EnvironmentFile=` name.
    """
    places = {"/opt/mailroom/.venv": sys.prefix, "/opt/mailroom": str(ROOT)}
    for place, name in (("/etc/mailroom", "etc"), ("/var/lib/mailroom", "var")):
        (tmp_path / name).mkdir()
        places[place] = str(tmp_path / name)

    def moved(text: str) -> str:
        for place, here in places.items():
            text = text.replace(place, here)
        return text

    unit = moved((ROOT / "deploy" / "mailroom.service").read_text())
    (env_file,) = re.findall(r"(?m)^EnvironmentFile=-(.*)$", unit)
    (tmp_path / "etc" / "mailroom.toml").write_text('from = "a@acme.example"\n[providers.main]\ntype = "capture"\n')
    secrets = {"MAILROOM_SECRET_KEY": SECRET_KEY, "MAILROOM_CONNECTOR__AUTHORIZATION": AUTHORIZATION}
    assert env_file == str(tmp_path / "etc" / ".env"), "the command reads it as well"
    (tmp_path / "etc" / ".env").write_text("".join(f'{name}="{value}"\n' for name, value in secrets.items()))
    environment = secrets | dict(line.split("=", 1) for line in re.findall(r"(?m)^Environment=(.*)$", unit))
    (tmp_path / "mailroom").write_text(moved((ROOT / "deploy" / "mailroom").read_text()))

    async with Server(tmp_path / "var", None, environment=environment) as server:
        for words in (["status", "--json"], ["send", "ada@example.com", "--json"]):
            process = await asyncio.create_subprocess_exec(
                *("sh", str(tmp_path / "mailroom"), *words, "--url", server.url),
                cwd="/",
                env={"PATH": os.environ["PATH"]},
                stdout=asyncio.subprocess.PIPE,
            )
            output, _ = await process.communicate()
            assert process.returncode == 0, output.decode()
            report = json.loads(output)
            if words[0] == "status":
                assert report["settings"] == str(tmp_path / "etc" / "mailroom.toml")
                assert report["outbox"] == str(tmp_path / "var" / "mailroom.db")
            else:
                assert report["record"]["state"] == "sent"


def test_the_unit_and_the_command_name_the_same_files() -> None:
    """Each by its own syntax."""
    unit = (ROOT / "deploy" / "mailroom.service").read_text()
    exported = re.findall(r"(?m)^export (\S+)$", (ROOT / "deploy" / "mailroom").read_text())
    assert exported == re.findall(r"(?m)^Environment=(\S+)$", unit)
    assert "install -m 755 deploy/mailroom /usr/local/bin/" in unit
    command = shlex.split((ROOT / "deploy" / "mailroom").read_text().splitlines()[-1])
    assert command == ["exec", "/opt/mailroom/.venv/bin/mailroom", "$@"]
