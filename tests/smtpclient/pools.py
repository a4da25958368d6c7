"""A pool for a test's server, and a mail to send over it."""

import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

from mailroom.smtpclient import Login, Mail, Pool, Server, open_session
from tests.providers.smtp.scripted_server import Seen
from tests.smtp_server import Server as SmtpServer
from tests.wire_server import WireServer

CONTENT = b"From: no-reply@acme.example\r\nSubject: Your code\r\n\r\nYour code is 482913.\r\n"
_POOL = frozenset({"size", "limits", "idle_seconds", "mails_per_session", "monotonic", "sleep", "avoided", "on_broken"})


def mail(recipient: str = "ada@reader.example", content: bytes = CONTENT, **changes: Any) -> Mail:
    """Return a mail."""
    return Mail(changes.pop("sender", "no-reply@acme.example"), recipient, content, **changes)


@contextlib.asynccontextmanager
async def pool_of(
    server: WireServer | SmtpServer | Seen, login: Login | None = None, **options: Any
) -> AsyncIterator[Pool]:
    """Give a pool; `options` are the pool's and the server's. It trusts the server's authority."""
    for_pool = {name: options.pop(name) for name in _POOL & options.keys()}
    if isinstance(server, SmtpServer):
        options.setdefault("context", ssl.create_default_context(cafile=server.ca_file))
    where = Server(**{"host": server.host, "port": server.port, "tls": "none", **options})
    pool = Pool(lambda progress: open_session(where, login, progress), **for_pool)
    try:
        yield pool
    finally:
        await pool.aclose()
