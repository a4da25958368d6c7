"""Another sender and server for one organization: a request of Logto → `python server.py` → SMTP."""

from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.harness import AUTHORIZATION, Server, configuration
from tests.smtp_server import Received, smtp_server

OVERRIDES = """
[routes]
default = ["main"]
[[overrides]]
when = {{ organization = "mmp97otrr6k1" }}
from = "Lighthouse <no-reply@lighthouse.example>"
reply_to = "help@lighthouse.example"
providers = ["own"]
[providers.own]
type = "smtp"
host = "127.0.0.1"
port = {port}
tls = "none"
from = "Own <no-reply@own.example>"
"""


def headers(received: Received) -> tuple[str, str, str | None]:
    """Return the envelope's sender, From and Reply-To."""
    mail = message_from_bytes(received.content, policy=policy.default)
    return received.sender or "", mail["From"], mail["Reply-To"]


async def test_each_organizations_mails_leave_from_its_sender_and_by_its_server(tmp_path: Path) -> None:
    invited: dict[str, Any] = {
        "organization": {"id": "mmp97otrr6k1", "name": "Nordwind"},
        "link": "https://a.example/x",
    }
    requests = [
        {"to": "ada@example.com", "type": "SignIn", "payload": {"code": "314159"}},
        {"to": "bob@example.com", "type": "OrganizationInvitation", "payload": invited},
    ]
    async with smtp_server(tls="none") as main, smtp_server(tls="none") as own:
        provider = f'type = "smtp"\nhost = "127.0.0.1"\nport = {main.port}\ntls = "none"\n'
        async with (
            Server(tmp_path, configuration(provider) + OVERRIDES.format(port=own.port)) as server,
            httpx.AsyncClient(trust_env=False, timeout=30, headers={"authorization": AUTHORIZATION}) as client,
        ):
            for one in requests:
                assert (await client.post(f"{server.url}/email", json=one)).status_code == httpx.codes.OK
            (usual,) = await main.received(1)
            (other,) = await own.received(1)
    assert headers(usual) == ("no-reply@acme.example", "Acme <no-reply@acme.example>", None)
    assert headers(other) == (
        "no-reply@lighthouse.example",
        "Lighthouse <no-reply@lighthouse.example>",
        "help@lighthouse.example",
    )
