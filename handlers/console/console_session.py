"""Sessions of the console: one password, then signed cookies that only this site's pages can send.

There is one cookie for the session (12 h), and one that shows that this browser has signed in before (400 days), see
`guesses`. Changing the password or `secret_key` ends both. The end of a session is stored in the outbox until the
session would have expired, so it holds across restarts and in every process.
"""

import hmac
from collections.abc import Callable
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qs

from itsdangerous import BadData, URLSafeSerializer
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from handlers import request_body
from handlers.auth import AllowedNetworks
from handlers.console.guesses import Guesses, caller_key
from handlers.responses import RequestError
from mailroom.clock import Clock
from mailroom.config.model import Settings
from mailroom.outbox import DedupKey, Outbox

COOKIE: Final = "mailroom_console"
DEVICE_COOKIE: Final = "mailroom_browser"
_PATH: Final = "/console"
_SECONDS: Final = 12 * 3600
_DEVICE_SECONDS: Final = 400 * 24 * 3600
"""Browsers keep no cookie longer."""
_ID_OCTETS: Final = 16
_FIELDS: Final = 4


class Throttled(Exception):
    """There were too many wrong passwords from this caller: this one was not compared."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds
        """Until the next one is compared."""


class Sessions:
    """Checks the password; begins and ends sessions."""

    def __init__(self, settings: Settings, *, outbox: Outbox, clock: Clock, entropy: Callable[[int], bytes]) -> None:
        assert settings.console.password is not None  # else there is no console
        self._password = settings.console.password.get_secret_value().encode()
        keys = [key.get_secret_value() for key in settings.secret_key][::-1]  # itsdangerous signs with the last
        digest = sha256(self._password).digest()
        self._signer = URLSafeSerializer(keys, salt=b"console session " + digest)
        self._device_signer = URLSafeSerializer(keys, salt=b"console browser " + digest)
        self._networks = AllowedNetworks(settings.connector)
        self._guesses = Guesses(clock)
        self._outbox = outbox
        self._clock = clock
        self._entropy = entropy

    def name_caller(self, request: Request) -> str:
        """Return the caller's address, or network, for the log."""
        return caller_key(self._networks.caller(request.scope))

    async def accepts(self, request: Request) -> bool:
        """Return whether the form has the right password; False is delayed. Raises Throttled."""
        given = await _password(request)
        caller, device = self.name_caller(request), self._device(request)
        seconds = self._guesses.seconds_until_allowed(caller, device)
        if seconds:
            raise Throttled(seconds)
        if hmac.compare_digest(given, self._password):
            return True
        await self._guesses.delay(caller, device)
        return False

    def begin(self, request: Request, response: Response) -> None:
        """Set the cookies."""
        session = [self._new_id(), int(self._clock.now()) + _SECONDS]
        device = self._device(request) or self._new_id()
        # A proxy terminates TLS; a forged header only makes the client's own cookie stricter.
        forwarded = request.headers.get("x-forwarded-proto", "").split(",")[0].strip()
        secure = "https" in (request.url.scheme, forwarded)
        for name, value, seconds in (
            (COOKIE, self._signer.dumps(session), _SECONDS),
            (DEVICE_COOKIE, self._device_signer.dumps(device), _DEVICE_SECONDS),
        ):
            response.set_cookie(
                name, value, max_age=seconds, path=_PATH, httponly=True, samesite="strict", secure=secure
            )

    async def holds(self, request: Request) -> bool:
        """Return whether the request belongs to a session that has not ended. Raises OutboxError."""
        session = self._session(request)
        return session is not None and not await self._outbox.happened(_ended(session[0]))

    async def end(self, request: Request, response: Response) -> None:
        """End the session, here and in the browser. Raises CannotKeep if that cannot be stored."""
        session = self._session(request)
        if session is not None:
            await self._outbox.remember(DedupKey(_ended(session[0]), session[1]))
        response.delete_cookie(COOKIE, path=_PATH, httponly=True, samesite="strict")

    def is_same_origin(self, request: Request) -> bool:
        """Return whether a form was sent from one of our own pages; every browser sends one of two headers."""
        fetch_site = request.headers.get("sec-fetch-site")
        if fetch_site is not None:
            return fetch_site in ("same-origin", "none")
        origin = request.headers.get("origin")
        return origin is None or origin.partition("://")[2] == request.headers.get("host")

    def _session(self, request: Request) -> tuple[str, int] | None:
        """Return id and expiry of the session in the request's cookie, unless it has expired."""
        try:
            match self._signer.loads(request.cookies.get(COOKIE, "")):
                case [str() as id_, int() as until] if self._clock.now() < until:
                    return id_, until
        except BadData:
            pass
        return None

    def _device(self, request: Request) -> str | None:
        try:
            return str(self._device_signer.loads(request.cookies.get(DEVICE_COOKIE, "")))
        except BadData:
            return None

    def _new_id(self) -> str:
        return self._entropy(_ID_OCTETS).hex()


def _ended(session_id: str) -> bytes:
    return b"console session ended:" + session_id.encode()


async def _password(request: Request) -> bytes:
    """Return the form's password; empty if there is none, which is never the right one."""
    try:
        content = await request_body.body(request.scope, request.receive)
        form = parse_qs(content.decode("utf-8", "replace"), max_num_fields=_FIELDS)
    except (RequestError, ClientDisconnect, ValueError):
        return b""
    return form.get("password", [""])[0].encode()
