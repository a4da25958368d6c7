"""npm's smtp-server in a Node process: a server that shares no line with aiosmtpd, see node/smtp_server.mjs.

async with npm_smtp_server(tls="starttls", methods=["XOAUTH2"]) as server:
    await server.let_in({"ada@acme.example": "the token"})
    ...
    mail = await server.mail()
"""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.e2e import node
from tests.e2e.harness import ROOT
from tests.smtp_server import authority

HOST = "127.0.0.1"


_PLACE = ROOT / "tests" / "node"


def missing() -> str:
    """Return why the server cannot run here, for `pytest.mark.skipif`; empty: it can."""
    if (why := node.missing()) or (_PLACE / "node_modules" / "smtp-server").is_dir():
        return why
    return "say `npm ci` in tests/node again: npm's smtp-server is new"


@dataclass(frozen=True, slots=True)
class Arrived:
    """A mail as it came."""

    user: str
    sender: str
    recipients: tuple[str, ...]
    remote: str
    """The address that it came from."""
    secure: bool
    content: bytes


class NpmSmtpServer:
    """The running server."""

    host = HOST

    def __init__(self, process: asyncio.subprocess.Process, ca_file: Path) -> None:
        self.ca_file = ca_file
        self.port = 0
        self.logins: list[tuple[str, bool]] = []
        """Method and whether it was good."""
        self._process = process

    async def start(self) -> None:
        """Return when it listens."""
        self.port = (await self._told("port"))["port"]

    async def let_in(self, tokens: Mapping[str, str]) -> None:
        """Take these access tokens, and no others, from now on."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"tokens": tokens}).encode() + b"\n")
        await self._told("ok")

    async def mail(self) -> Arrived:
        """Return the next mail."""
        told = (await self._told("mail"))["mail"]
        return Arrived(
            told["user"],
            told["from"],
            tuple(told["to"]),
            told["remote"],
            told["secure"],
            base64.b64decode(told["content"]),
        )

    async def _told(self, wanted: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(20):
            while line := await self._process.stdout.readline():
                told: dict[str, Any] = json.loads(line)
                if "login" in told:
                    self.logins.append((told["login"], told["good"]))
                if wanted in told:
                    return told
        raise AssertionError("the Node process ended; its last words are on stderr")


@contextlib.asynccontextmanager
async def npm_smtp_server(**options: Any) -> AsyncIterator[NpmSmtpServer]:
    """Run a server with `tls`, `methods`, `users`, `from`; with `client_certificates` it asks for one."""
    with TemporaryDirectory() as folder:
        key, cert, ca_file = (Path(folder) / name for name in ("key.pem", "cert.pem", "ca.pem"))
        issued = authority().issue_cert(HOST, "mail.acme.example")
        issued.private_key_pem.write_to_path(key)
        issued.cert_chain_pems[0].write_to_path(cert)
        authority().cert_pem.write_to_path(ca_file)
        if options.pop("client_certificates", False):
            options["clientCa"] = str(ca_file)
        told = {"tls": "none", "key": str(key), "cert": str(cert), **options}
        process = await asyncio.create_subprocess_exec(
            "node",
            "smtp_server.mjs",
            json.dumps(told),
            cwd=_PLACE,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        server = NpmSmtpServer(process, ca_file)
        try:
            await server.start()
            yield server
        finally:
            assert process.stdin is not None
            process.stdin.close()
            await process.communicate()
