"""Opens an SMTP session: connect, encrypt, log in. What fails here is never the mail's fault."""

import asyncio
import base64
from typing import Final

from mailroom.clock import Clock
from mailroom.errors import Misconfigured, SendingError, Unavailable
from mailroom.providers._egress import Egress, parse_proxy
from mailroom.providers._oauth2 import Token, Tokens
from mailroom.providers._smtp_connect import Connector, connection_failure
from mailroom.providers._smtp_replies import Reply, Stage, refusal
from mailroom.providers._smtp_session import Session
from mailroom.providers._smtp_settings import Settings
from mailroom.providers._smtp_talk import Refused, Talk
from mailroom.providers._smtp_wire import Lost
from mailroom.providers._words import bounded

_BAD_CREDENTIALS: Final = "535"


class Dialler:
    """Opens sessions to the one server that the settings name."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Read what the settings say; nothing is dialled."""
        self._settings = settings
        self._where = f"{settings.host}:{settings.port}"
        self._connector = Connector(settings)
        self._tokens = _tokens(settings, clock)
        self.may_chunk = True
        """Whether the server is believed when it offers CHUNKING."""

    async def dial(self) -> Session:
        """Return a session that is ready for its first mail. Raises Misconfigured or Unavailable."""
        seconds = self._settings.connect_timeout
        try:
            async with asyncio.timeout(seconds):
                if self._tokens is None:
                    return await self._dial(None)
                return await self._dial_with_token(self._tokens)
        except TimeoutError:
            raise Unavailable(f"{self._where} was not ready for a mail within {seconds:g} s") from None

    async def aclose(self) -> None:
        """Close the connections to the token endpoint."""
        if self._tokens is not None:
            await self._tokens.aclose()

    async def _dial_with_token(self, tokens: Tokens) -> Session:
        """Log in; a token that was good and is not any more is replaced, once."""
        while True:
            token = await tokens.get()
            try:
                session = await self._dial(token)
            except Misconfigured as refused:
                if refused.code.startswith(_BAD_CREDENTIALS):
                    tokens.refused(token)
                    if token.accepted and tokens.renewable:
                        continue
                raise
            token.accepted = True
            return session

    async def _dial(self, token: Token | None) -> Session:
        wire = await self._connector.connect()
        talk = Talk(wire)
        try:
            await self._open(talk, token)
            if not self.may_chunk:
                talk.extensions.pop("chunking", None)
            return Session(wire, talk.extensions)
        except Refused as refused:
            wire.abort()
            raise self._refusal(talk.stage, refused.reply, token) from None
        except (Lost, OSError) as error:
            wire.abort()
            raise connection_failure(self._where, error, self._settings, stage=talk.stage) from None
        except BaseException:
            wire.abort()
            raise

    async def _open(self, talk: Talk, token: Token | None) -> None:
        settings = self._settings
        encrypted = settings.tls == "implicit"
        await talk.hear_greeting()
        await talk.greet(settings.helo_name)
        if self._wants_starttls(talk):
            assert self._connector.context is not None
            await talk.encrypt(self._connector.context, self._connector.servername)
            encrypted = True
            await talk.greet(settings.helo_name)  # what was said in clear does not count (RFC 3207 §4.2)
        if token is not None or settings.password is not None:
            if not encrypted and settings.tls != "none" and not settings.is_loopback:
                raise Misconfigured(
                    f'{self._where} offers no STARTTLS, and the password is not sent in clear unless tls = "none"'
                )
            await talk.log_in(self._way(talk, token), settings.username or "", self._secret(token))

    def _wants_starttls(self, talk: Talk) -> bool:
        offered = "starttls" in talk.extensions
        if self._settings.tls == "starttls" and not offered:
            raise Misconfigured(
                f'{self._where} offers no STARTTLS; if it encrypts from the first byte (port 465), say tls = "implicit"'
            )
        return offered and self._settings.tls in ("starttls", "opportunistic")

    def _way(self, talk: Talk, token: Token | None) -> str:
        if token is not None:
            ways: tuple[str, ...] = ("XOAUTH2",)
        else:
            ways = ("PLAIN", "LOGIN") if self._settings.auth == "auto" else (self._settings.auth.upper(),)
        for way in ways:
            if way in talk.logins:
                return way
        raise Misconfigured(
            f"{self._where} does not let us log in by {' or '.join(ways)}; "
            f"it offers: {bounded(' '.join(talk.logins)) or 'no login at all'}"
        )

    def _secret(self, token: Token | None) -> str:
        if token is not None:
            return token.text
        assert self._settings.password is not None  # without either there is no login
        return self._settings.password.get_secret_value()

    def _refusal(self, stage: Stage, reply: Reply, token: Token | None) -> SendingError:
        refused = refusal(stage, reply)
        if stage is Stage.AUTH and self._repeats_credentials("\n".join(reply.lines), self._secret(token)):
            return type(refused)(
                f"{refused.code} (the words are not kept: they repeat the password)",
                code=refused.code,
                hint=refused.hint,
            )
        return refused

    def _repeats_credentials(self, text: str, secret: str) -> bool:
        username = self._settings.username
        said = (secret, f"\0{username}\0{secret}", f"user={username}\1auth=Bearer {secret}\1\1")
        forms = (secret, *(base64.b64encode(form.encode()).decode().rstrip("=") for form in said))
        squeezed = "".join(text.split())
        return any(form in text or form in squeezed for form in forms)


def _tokens(settings: Settings, clock: Clock) -> Tokens | None:
    """Return where tokens come from; they are asked for over the way that mails take."""
    if settings.oauth2 is None:
        return None
    from mailroom.providers._http_transport import Transport  # noqa: PLC0415 - aiohttp, only for OAuth2

    egress = Egress(settings.local_address, parse_proxy(settings.proxy), connect_timeout=settings.connect_timeout)
    return Tokens(
        settings.oauth2,
        username=settings.username or "",
        url=settings.token_url,
        scope=settings.token_scope,
        transport=Transport(egress, clock),
        clock=clock,
    )
