"""When Logto shows its end user our `Authorization` and the code: what `docs/security.md` says under "leak".

Logto's own connector calls an endpoint that fails in each of these ways. The error that it raises is what Logto
answers to whoever asked for a code.
"""

import asyncio
import datetime as dt
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.e2e import node
from tests.e2e.harness import AUTHORIZATION, unless

pytestmark = unless(node.missing())

MAIL = {"to": "ada@example.com", "type": "SignIn", "payload": {"code": "329452"}}
LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)

Issue = Callable[[trustme.CA], trustme.LeafCert]
Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def good(authority: trustme.CA) -> trustme.LeafCert:
    """Return a certificate as it should be."""
    return authority.issue_cert("localhost")


def expired(authority: trustme.CA) -> trustme.LeafCert:
    """Return one that has expired."""
    return authority.issue_cert("localhost", not_after=LONG_AGO)


def of_another_name(authority: trustme.CA) -> trustme.LeafCert:
    """Return one for another host."""
    return authority.issue_cert("www.acme.example")


def of_another_authority(_: trustme.CA) -> trustme.LeafCert:
    """Return one of an authority that Logto's machine does not trust: self-signed, or without the intermediate."""
    return trustme.CA().issue_cert("localhost")


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Refuse each request with a text."""
    await reader.readuntil(b"}}")
    writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno.")
    await writer.drain()
    writer.close()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close instead of answering."""
    await reader.read(10_000)
    writer.close()


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reset instead of answering."""
    await reader.read(10_000)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close in the middle of the answer."""
    await reader.read(10_000)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()
    writer.close()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The endpoint that is configured in Logto."""

    url: str
    authority: Path
    """The authority that Logto's machine trusts."""


@asynccontextmanager
async def endpoint(
    directory: Path,
    *,
    scheme: str = "https",
    issue: Issue | None = good,
    handle: Handle = answer,
) -> AsyncIterator[Endpoint]:
    """Serve with this certificate, or without TLS, and have Logto call it by this scheme."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "authority.pem")
    context = None
    if issue:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issue(authority).configure_cert(context)
    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield Endpoint(f"{scheme}://localhost:{port}/email", directory / "authority.pem")


async def call(target: Endpoint) -> node.Answer:
    """Send one mail as Logto does."""
    async with node.connector(target.authority) as logto:
        return await logto.send(target.url, AUTHORIZATION, MAIL)


@pytest.mark.parametrize(
    ("issue", "reason"),
    [
        (expired, "CERT_HAS_EXPIRED"),
        (of_another_name, "ERR_TLS_CERT_ALTNAME_INVALID"),
        (of_another_authority, "UNABLE_TO_VERIFY_LEAF_SIGNATURE"),
    ],
)
async def test_a_certificate_that_is_not_trusted_leaks(issue: Issue, reason: str, tmp_path: Path) -> None:
    """The request was never sent, but it is shown."""
    async with endpoint(tmp_path, issue=issue) as target:
        answered = await call(target)
    assert (answered.dropped, answered.leaked) == (reason, True)


async def test_https_to_an_http_port_leaks(tmp_path: Path) -> None:
    """As when the endpoint in Logto names port 80, or Mailroom's own."""
    async with endpoint(tmp_path, issue=None, handle=hang_up) as target:
        answered = await call(target)
    assert answered.leaked
    assert not answered.message


async def test_http_to_an_https_port_leaks(tmp_path: Path) -> None:
    """Unless the server sends an HTTP response, as nginx and Caddy do."""
    async with endpoint(tmp_path, scheme="http") as target:
        answered = await call(target)
    assert answered.leaked


async def test_a_name_that_does_not_resolve_leaks(tmp_path: Path) -> None:
    """A label of more than 63 octets is refused by the resolver without a query (RFC 1035 §2.3.4)."""
    async with endpoint(tmp_path) as target:
        answered = await call(Endpoint(f"https://{'mail' * 16}.example/email", target.authority))
    assert (answered.dropped, answered.leaked) == ("ENOTFOUND", True)


async def test_a_closed_port_leaks(tmp_path: Path) -> None:
    """As while a server without a parent process, a systemd socket or a proxy restarts."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # taken, but nobody listens: refused
        async with endpoint(tmp_path) as target:
            port = unused.getsockname()[1]
            answered = await call(Endpoint(f"https://127.0.0.1:{port}/email", target.authority))
    assert (answered.dropped, answered.leaked) == ("ECONNREFUSED", True)


@pytest.mark.parametrize("handle", [hang_up, reset, cut])
async def test_a_connection_that_breaks_leaks(handle: Handle, tmp_path: Path) -> None:
    """Before the answer, or within it."""
    async with endpoint(tmp_path, handle=handle) as target:
        answered = await call(target)
    assert answered.dropped
    assert answered.leaked


async def test_a_refusal_does_not_leak(tmp_path: Path) -> None:
    """Whatever its status, the end user is shown only its text."""
    async with endpoint(tmp_path) as target:
        answered = await call(target)
    assert (answered.message, answered.leaked) == ("no.", False)
