"""An OAuth2 refresh token that its vendor replaces at each use: it survives the end of the server, sealed."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
from click.testing import CliRunner

from mailroom.cli.context import CliContext, mailroom
from tests.e2e.harness import AUTHORIZATION, Server, configuration, unless
from tests.names import name_server
from tests.npm_smtp_server import NpmSmtpServer, missing, npm_smtp_server
from tests.token_endpoint import TokenEndpoint, token_endpoint

pytestmark = unless(missing())

_ADA = "ada@acme.example"


def _provider(smtp: NpmSmtpServer, endpoint: TokenEndpoint) -> str:
    return f"""\
type = "smtp"
host = "{smtp.host}"
port = {smtp.port}
ca_file = "{smtp.ca_file}"
username = "{_ADA}"
oauth2 = {{ client_id = "app", client_secret = "shared", refresh_token = "consent-0", access_url = "{endpoint.url}" }}
"""


def _answer(number: int) -> tuple[int, Any]:
    return 200, {"access_token": f"access-{number}", "refresh_token": f"consent-{number}", "expires_in": 3600}


async def _send(server: Server, code: str) -> None:
    content = json.dumps({"to": "eve@reader.example", "type": "SignIn", "payload": {"code": code}})
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        answer = await client.post(f"{server.url}/email", content=content, headers={"Authorization": AUTHORIZATION})
    assert answer.status_code == httpx.codes.OK, answer.text


async def test_a_replaced_refresh_token_is_used_after_a_restart(tmp_path: Path) -> None:
    """After SIGKILL too, and by `mailroom doctor`, whose new token the server uses in its turn."""
    async with (
        token_endpoint() as endpoint,
        npm_smtp_server(tls="starttls", methods=["XOAUTH2"], users={}) as smtp,
        Server(tmp_path, configuration(_provider(smtp, endpoint))) as server,
    ):
        await smtp.let_in({_ADA: "access-1"})
        endpoint.answers.append(_answer(1))
        await _send(server, "314159")
        await smtp.mail()
        await server.kill()

        stored = b"".join(file.read_bytes() for file in (tmp_path / "data").iterdir())
        assert b"refresh_token" in stored  # its name
        for secret in (b"consent-0", b"consent-1", b"access-1"):
            assert secret not in stored
            assert secret.decode() not in server.log()

        await smtp.let_in({_ADA: "access-2"})
        endpoint.answers.append(_answer(2))
        await asyncio.to_thread(_doctor, tmp_path)

        await smtp.let_in({_ADA: "access-3"})
        endpoint.answers.append(_answer(3))
        await server.start()
        await server.ready()
        await _send(server, "271828")
        await smtp.mail()

    assert [form["refresh_token"] for form in endpoint.forms] == ["consent-0", "consent-1", "consent-2"]


def _doctor(folder: Path) -> None:
    settings = (folder / "mailroom.toml").read_text()
    config = folder / "doctor.toml"
    config.write_text(f'database_url = "sqlite:///{folder}/data/mailroom.db"\n{settings}')
    with name_server({}) as dns:
        words = ["doctor", "--json", "--nameserver", f"127.0.0.1#{dns.port}"]
        result = CliRunner().invoke(mailroom, words, obj=CliContext(config, dev=False))
    (provider,) = json.loads(result.stdout)["providers"]
    [credentials] = [one for one in provider["findings"] if one["about"] == "credentials"]
    assert credentials["mark"] == "good", credentials
