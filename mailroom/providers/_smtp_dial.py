"""Opens an SMTP session: connect, encrypt, log in. What fails here is never the mail's fault."""

import asyncio
import base64
import re
import socket
from ipaddress import ip_address
from typing import Final, cast

import aiosmtplib

from mailroom.clock import Clock
from mailroom.errors import Misconfigured, SendingError, Unavailable
from mailroom.providers._http_settings import HttpSettings
from mailroom.providers._http_transport import Transport
from mailroom.providers._oauth2 import Token, Tokens
from mailroom.providers._smtp_connect import Connector, connection_failure
from mailroom.providers._smtp_replies import Reply, Stage, refusal
from mailroom.providers._smtp_session import Session
from mailroom.providers._smtp_settings import Settings
from mailroom.providers._smtp_wire import Wire
from mailroom.providers._words import bounded

_FULL_NAME: Final = re.compile(r"(?=.{1,255}\Z)[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_NOT_UNDERSTOOD: Final = frozenset({500, 502, 504})
_BAD_CREDENTIALS: Final = "535"


class Dialler:
    """Opens sessions to the one server that the settings name."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        """Read what the settings say; nothing is dialled."""
        self._settings = settings
        self._where = f"{settings.host}:{settings.port}"
        self._context = None if settings.tls == "none" else settings.tls_context()
        self._connector = Connector(settings, self._context)
        self._tokens = _tokens(settings, clock)

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
        settings = self._settings
        client = aiosmtplib.SMTP(
            hostname=self._connector.servername,
            port=settings.port,
            local_hostname="localhost",  # replaced below; without one it would ask the DNS
            start_tls=False,  # done below: left to itself it logs in in clear where STARTTLS is missing
            tls_context=self._context,
            timeout=None,
        )
        try:
            await self._open(client, token)
            return self._taken_over(client)
        except BaseException:
            client.close()
            raise

    def _taken_over(self, client: aiosmtplib.SMTP) -> Session:
        if client.transport is None or client.transport.is_closing():
            raise Unavailable(f"{self._where} closed the connection before it took a mail")
        return Session(Wire(cast("asyncio.Transport", client.transport)), client.esmtp_extensions)

    async def _open(self, client: aiosmtplib.SMTP, token: Token | None) -> None:
        await self._connector.connect(client)
        stage = Stage.GREETING
        try:
            await _hear_greeting(client)
            client.local_hostname = self._settings.helo_name or _own_name(client)
            stage = Stage.EHLO
            await _greet(client)
            if self._wants_starttls(client):
                stage = Stage.STARTTLS
                await client.starttls()
                stage = Stage.EHLO  # what was said in clear does not count (RFC 3207 §4.2)
                await _greet(client)
            if token is not None or self._settings.password is not None:
                stage = Stage.AUTH
                await self._log_in(client, token)
        except aiosmtplib.SMTPResponseException as error:
            raise self._refusal(stage, error, token) from None
        except aiosmtplib.SMTPTimeoutError:
            raise TimeoutError from None
        except (aiosmtplib.SMTPException, OSError) as error:
            cause = error.__cause__ or error
            raise connection_failure(self._where, cause, self._settings, stage=stage) from None

    def _wants_starttls(self, client: aiosmtplib.SMTP) -> bool:
        offered = client.supports_extension("starttls")
        if self._settings.tls == "starttls" and not offered:
            raise Misconfigured(
                f'{self._where} offers no STARTTLS; if it encrypts from the first byte (port 465), say tls = "implicit"'
            )
        return offered and self._settings.tls in ("starttls", "opportunistic")

    async def _log_in(self, client: aiosmtplib.SMTP, token: Token | None) -> None:
        settings = self._settings
        is_clear = client.get_transport_info("sslcontext") is None
        if is_clear and settings.tls != "none" and not settings.is_loopback:
            raise Misconfigured(
                f'{self._where} offers no STARTTLS, and the password is not sent in clear unless tls = "none"'
            )
        offered = client.server_auth_methods
        if token is not None:
            ways: tuple[str, ...] = ("xoauth2",)
        else:
            ways = ("plain", "login") if settings.auth == "auto" else (settings.auth,)
        way = next((way for way in ways if way in offered), None)
        if way is None:
            raise Misconfigured(
                f"{self._where} does not let us log in by {' or '.join(ways).upper()}; "
                f"it offers: {bounded(' '.join(offered).upper()) or 'no login at all'}"
            )
        auth = {"plain": client.auth_plain, "login": client.auth_login, "xoauth2": client.auth_xoauth2}[way]
        await auth(settings.username or "", self._secret(token))

    def _secret(self, token: Token | None) -> str:
        if token is not None:
            return token.text
        assert self._settings.password is not None  # without either there is no login
        return self._settings.password.get_secret_value()

    def _refusal(self, stage: Stage, error: aiosmtplib.SMTPResponseException, token: Token | None) -> SendingError:
        if error.code < 0:
            return Unavailable(f"{self._where} answered something that is not SMTP")
        lines = tuple(error.message.split("\n"))
        refused = refusal(stage, Reply(error.code, lines))
        if stage is Stage.AUTH and self._repeats_credentials(error.message, self._secret(token)):
            return type(refused)(
                f"{refused.code} (the words are not kept: they repeat the password)", code=refused.code
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
    way = HttpSettings(
        type="oauth2",
        local_address=settings.local_address,
        proxy=settings.proxy,
        connect_timeout=settings.connect_timeout,
    )
    return Tokens(
        settings.oauth2,
        username=settings.username or "",
        url=settings.token_url,
        scope=settings.token_scope,
        transport=Transport(way, clock),
        clock=clock,
    )


async def _hear_greeting(client: aiosmtplib.SMTP) -> None:
    assert client.protocol is not None
    response = await client.protocol.read_response()
    if response.code != aiosmtplib.SMTPStatus.ready:
        raise aiosmtplib.SMTPResponseException(response.code, response.message)


async def _greet(client: aiosmtplib.SMTP) -> None:
    try:
        await client.ehlo()
    except aiosmtplib.SMTPHeloError as error:
        if error.code not in _NOT_UNDERSTOOD:
            raise
        await client.helo()


def _own_name(client: aiosmtplib.SMTP) -> str:
    """Return this machine's name if it is a full one, else its address as a literal (RFC 5321 §4.1.4)."""
    name = socket.gethostname()
    if _FULL_NAME.fullmatch(name):
        return name
    address = ip_address(client.get_transport_info("sockname")[0].partition("%")[0])
    return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"  # noqa: PLR2004  # the protocol's name
