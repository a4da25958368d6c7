"""Who may look: one password, then a signed cookie that this site's own pages alone can use."""

import asyncio
import hmac
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qs

from itsdangerous import BadData, URLSafeSerializer
from starlette.requests import Request
from starlette.responses import Response

from handlers import reading
from handlers.answering import Refused
from mailroom.clock import Clock
from mailroom.settings import Settings

COOKIE: Final = "mailroom_console"
_PATH: Final = "/console"
_SECONDS: Final = 12 * 3600
_GUESSES: Final = 4
"""At a time, of which a wrong one takes a second: whoever guesses gets four a second."""
_GUESS_SECONDS: Final = 1.0
_FIELDS: Final = 4


class Session:
    """Signs who gave the password; another password or another key ends every session."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        assert settings.console.password is not None  # else there is no console
        self._password = settings.console.password.get_secret_value().encode()
        keys = [key.get_secret_value() for key in settings.secret_key]
        self._signer = URLSafeSerializer(
            keys[::-1],  # itsdangerous signs with the last
            salt=b"console session " + sha256(self._password).digest(),
        )
        self._clock = clock
        self._guesses = asyncio.Semaphore(_GUESSES)

    async def accepts(self, request: Request) -> bool:
        """Tell whether the form holds the password; slow to say no."""
        given = await _password(request)
        async with self._guesses:
            if hmac.compare_digest(given, self._password):
                return True
            await self._clock.sleep(_GUESS_SECONDS)
            return False

    def begin(self, request: Request, response: Response) -> None:
        """Hand out the cookie."""
        response.set_cookie(
            COOKIE,
            self._signer.dumps(int(self._clock.now()) + _SECONDS),
            max_age=_SECONDS,
            path=_PATH,
            httponly=True,
            samesite="strict",
            # A proxy terminates TLS; whoever invents the header only makes their own cookie stricter.
            secure="https" in (request.url.scheme, request.headers.get("x-forwarded-proto", "").split(",")[0].strip()),
        )

    def holds(self, request: Request) -> bool:
        """Tell whether the request carries a cookie of ours that has not run out."""
        try:
            until = self._signer.loads(request.cookies.get(COOKIE, ""))
        except BadData:
            return False
        return isinstance(until, int) and self._clock.now() < until

    def end(self, response: Response) -> None:
        """Take the cookie back."""
        response.delete_cookie(COOKIE, path=_PATH, httponly=True, samesite="strict")

    def is_same_origin(self, request: Request) -> bool:
        """Tell whether a form was sent from one of our own pages; every browser says so by one of two headers."""
        fetch_site = request.headers.get("sec-fetch-site")
        if fetch_site is not None:
            return fetch_site in ("same-origin", "none")
        origin = request.headers.get("origin")
        return origin is None or origin.partition("://")[2] == request.headers.get("host")


async def _password(request: Request) -> bytes:
    """Return the form's password; empty where there is none, which is nobody's password."""
    try:
        content = await reading.body(request.scope["headers"], request.receive)
        form = parse_qs(content.decode("utf-8", "replace"), max_num_fields=_FIELDS)
    except (Refused, reading.Disconnected, ValueError):
        return b""
    return form.get("password", [""])[0].encode()
