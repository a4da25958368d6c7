"""`--dev` accepts any authorization, so it accepts requests from this machine only, and only direct ones."""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from handlers.responses import ErrorResponse, send_error
from mailroom.config.model import Settings

_LOOPBACK_NAMES: Final = frozenset({b"localhost", b"127.0.0.1", b"[::1]", b"host.docker.internal"})
"""The last one is how a Logto in Docker Desktop reaches this machine; no foreign page can be opened under it."""
_FORWARDED: Final = frozenset({b"forwarded", b"x-real-ip", b"via"})

_FOREIGN: Final = ErrorResponse(403, "Mailroom runs with --dev: open it as http://localhost, it answers no other name.")
_RELAYED: Final = ErrorResponse(403, "Mailroom runs with --dev and answers no forwarded requests.")


class LoopbackOnly:
    """Refuses requests that came through a proxy, under a foreign name (DNS rebinding), or from another site's page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if error := _refusal(scope):
            await send_error(send, error)
        else:
            await self._app(scope, receive, send)


def _refusal(scope: Scope) -> ErrorResponse | None:
    hosts = []
    for name, value in scope["headers"]:
        if name in _FORWARDED or name.startswith(b"x-forwarded-"):
            return _RELAYED
        if name == b"sec-fetch-site" and value == b"cross-site" and scope["method"] != "GET":
            return _FOREIGN
        if name == b"host":
            hosts.append(value)
    return None if len(hosts) == 1 and _without_port(hosts[0]) in _LOOPBACK_NAMES else _FOREIGN


def _without_port(host: bytes) -> bytes:
    name, colon, port = host.rpartition(b":")
    return (name if colon and port.isdigit() else host).lower()


def development_banner(settings: Settings, port: int) -> str:
    """Return the text that `--dev` prints at the start."""
    base = f"http://localhost:{port}"
    webhook = f"{base}/webhook" if settings.webhook.signing_keys else "off until MAILROOM_WEBHOOK__SIGNING_KEYS is set"
    return f"""
  Mailroom, in development: it keeps every mail instead of sending it, and answers this machine only.

    Logto's HTTP email connector   {base}/email   (any Authorization)
    Logto's webhook                {webhook}
    the mails                      {base}/console/captured

  Try it:
    curl {base}/email -d '{{"to": "ada@example.com", "type": "SignIn", "payload": {{"code": "123456"}}}}'
"""
