"""A server with one SMTP provider does not import what only other features need."""

import re
from pathlib import Path

import httpx

from tests.e2e.harness import AUTHORIZATION, Server, configuration
from tests.smtp_server import smtp_server

HEAVY = {
    "aiohttp", "aiohttp_socks", "boto3", "botocore", "css_inline", "cssselect2", "dns", "email_validator", "h11",
    "handlers.console", "html5lib", "httpx", "inscriptis", "itsdangerous", "langcodes", "lxml",
    "mailroom.lint.runner", "mailroom.cli", "mailroom.doctor", "mailroom.preview", "pydantic_settings",
    "pygments", "python_socks", "requests", "rich.console", "tinycss2",
}  # fmt: skip
"""Together they take more time and memory than all the rest. A language that is spelled otherwise (`en-US`) loads
`langcodes`, an address that is not plain `email_validator`, an operator's HTML `lxml` or `css_inline`."""


async def test_an_smtp_server_s_first_mail_needs_no_heavy_module(tmp_path: Path) -> None:
    async with smtp_server(tls="none") as smtp:
        provider = f'type = "smtp"\nhost = "127.0.0.1"\nport = {smtp.port}\ntls = "none"\n'
        async with (
            Server(tmp_path, configuration(provider), environment={"PYTHONPROFILEIMPORTTIME": "1"}) as server,
            httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as logto,
        ):
            mail = {"to": "ada@example.com", "type": "SignIn", "payload": {"code": "123456", "locale": "en"}}
            answer = await logto.post("/email", json=mail, headers={"authorization": AUTHORIZATION})
            assert answer.status_code == httpx.codes.OK
            await smtp.received(1)
            imported = set(re.findall(r"^import time: .* \| +(\S+)$", server.log(), re.MULTILINE))
    assert {"mailroom.smtpclient.session", "structlog", "uvloop"} <= imported, "else the log has no imports"
    assert not {name for name in imported for heavy in HEAVY if f"{name}.".startswith(f"{heavy}.")}
