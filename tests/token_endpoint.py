"""An OAuth2 token endpoint for tests: remembers the forms that came, answers as told.

async with token_endpoint() as endpoint:
    endpoint.answers.append((400, {"error": "invalid_grant"}))   # once; then as usual again
    ...
    endpoint.forms[0]["grant_type"]
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl

import h11

NEVER = (0, None)
"""An answer that does not come."""


class TokenEndpoint:
    """What was asked, and what is answered."""

    def __init__(self) -> None:
        self.port = 0
        self.forms: list[dict[str, str]] = []
        self.peers: list[str] = []
        self.answers: list[tuple[int, Any]] = []
        """Given once each, before the usual one."""
        self.lifetime: Any = 3600
        self.asked = asyncio.Event()
        self.live: set[asyncio.Task[Any] | None] = set()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}/token"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request after the other."""
        self.live.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await self._serve(reader, writer)
        writer.close()
        self.live.discard(asyncio.current_task())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = h11.Connection(h11.SERVER)
        body = b""
        while True:
            event = talk.next_event()
            if event is h11.NEED_DATA:
                talk.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                status, answer = self._answer(body, writer.get_extra_info("peername")[0])
                if not status:
                    await asyncio.Event().wait()
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                headers = [("Content-Length", str(len(data))), ("Content-Type", "application/json")]
                for part in (
                    h11.Response(status_code=status, headers=headers),
                    h11.Data(data=data),
                    h11.EndOfMessage(),
                ):
                    writer.write(talk.send(part) or b"")
                talk.start_next_cycle()
                body = b""
            elif isinstance(event, h11.ConnectionClosed):
                return

    def _answer(self, body: bytes, peer: str) -> tuple[int, Any]:
        self.forms.append(dict(parse_qsl(body.decode())))
        self.peers.append(peer)
        self.asked.set()
        if self.answers:
            return self.answers.pop(0)
        return 200, {
            "access_token": f"token-{len(self.forms)}",
            "token_type": "Bearer",
            "expires_in": self.lifetime,
        }


@contextlib.asynccontextmanager
async def token_endpoint() -> AsyncIterator[TokenEndpoint]:
    """Run one."""
    endpoint = TokenEndpoint()
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0)
    endpoint.port = server.sockets[0].getsockname()[1]
    try:
        yield endpoint
    finally:
        server.close()
        for task in tuple(endpoint.live):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        await server.wait_closed()
