"""SMTP: a provider's submission endpoint, or a relay of your own.

`mailroom.smtpclient` is the protocol; this package has the settings, the OAuth2 tokens, and what errors mean.
"""

import asyncio
import re
import ssl
from collections.abc import Mapping
from dataclasses import replace
from email.header import Header
from functools import lru_cache
from typing import Final

import structlog

from mailroom.address import ascii_form
from mailroom.errors import Misconfigured, Rejected, SendingError, Unavailable
from mailroom.message import Email, Receipt
from mailroom.providers.base import CODE_RESPONSE_SECONDS, CODE_STEP_SECONDS, ProviderContext
from mailroom.providers.smtp.oauth2 import Tokens
from mailroom.providers.smtp.replies import diagnostic, sending_error
from mailroom.providers.smtp.smtp_settings import Settings
from mailroom.smtpclient import (
    Command,
    Extension,
    Login,
    Mail,
    Pool,
    Progress,
    Reply,
    ReplyError,
    Server,
    Session,
    SmtpError,
    TimeLimits,
    open_session,
)

__all__ = ["Settings", "Smtp", "connect"]

_BAD_CREDENTIALS: Final = 535
_NO_LOGIN: Final = "offers no login and refuses ours: mails are sent without one"
_QUEUED: Final = re.compile(r"(?:queued as |\bOk:? )<?([\w.@+-]{6,200})>?\Z", re.IGNORECASE)

log = structlog.get_logger()


class Smtp:
    """Sends mails to one SMTP server, over at most `concurrency` connections."""

    def __init__(self, settings: Settings, context: ProviderContext) -> None:
        self._name = context.name
        self._settings = settings
        self._server = _server(settings)
        self._login = None
        self._has_reported_login = False
        if settings.username is not None and settings.password is not None:
            self._login = Login(settings.username, settings.password.get_secret_value())
            if settings.auth != "auto":
                self._login = replace(self._login, mechanisms=(settings.auth.upper(),))
        self._tokens = _token_source(settings, context)
        self._headers = _header_lines(settings.headers)
        self._notify = ",".join(settings.dsn).upper()
        self._signer = settings.dkim.signer() if settings.dkim else None
        self._code_limits = TimeLimits(
            settings.timeout,
            greeting=CODE_STEP_SECONDS,
            login=CODE_STEP_SECONDS,
            envelope=CODE_STEP_SECONDS,
            content=CODE_RESPONSE_SECONDS,
        )
        self._pool = Pool(
            self._open_session,
            size=settings.concurrency,
            limits=TimeLimits(settings.timeout),
            idle_seconds=settings.idle_seconds,
            mails_per_session=settings.mails_per_connection,
            monotonic=context.clock.monotonic,
            sleep=context.clock.sleep,
            avoided=_avoided(settings),
            on_broken=self._report_broken,
        )

    async def send(self, email: Email) -> Receipt:
        """Send a mail, see `Provider`; the wait for a free connection counts."""
        mail = self._mail(email)
        limits = self._code_limits if email.is_code else None
        try:
            return _receipt(await self._pool.send(mail, limits))
        except SmtpError as error:
            raise self._explain(error) from None

    async def verify(self) -> str:
        """Connect, encrypt, log in and send NOOP, see `Verifiable`."""
        try:
            is_logged_in = await self._pool.verify()
        except SmtpError as error:
            raise sending_error(error, self._settings) from None
        username = self._settings.username
        if is_logged_in or not username:
            what = f"the login of {username}" if username else "our connection without a login"
            return f"{self._server.name} takes {what}"
        return f"{self._server.name} {_NO_LOGIN}"

    async def verify_envelope(self, address: str) -> None:
        """Ask whether the server would take a mail from and to this address; sends none. Raises like `send`."""
        sender = _envelope_sender(address)
        try:
            await self._pool.verify(Mail(sender, sender, b""))
        except SmtpError as error:
            raise sending_error(error, self._settings) from None

    async def aclose(self) -> None:
        """Close all connections; mails that are being sent are aborted."""
        await self._pool.aclose()
        if self._tokens is not None:
            await self._tokens.aclose()

    def _explain(self, error: SmtpError) -> SendingError:
        """Return the error for a mail; closes idle connections if the server has too many.

        Neither error may hold frames that hold it: the mail would be in memory until `gc` runs.
        """
        failure = sending_error(error.with_traceback(None), self._settings)
        if isinstance(failure, Unavailable) and failure.exceeds_concurrency:
            self._pool.close_idle()
        return failure

    def _mail(self, email: Email) -> Mail:
        content = self._headers + email.raw
        if self._signer is not None:
            content = self._signer.sign(content)
        sender = _envelope_sender(email.sender.email)
        try:
            return Mail(sender, email.recipient, content, email.id, self._notify)
        except ValueError:
            raise Rejected("the recipient's address cannot be written in SMTP") from None

    async def _open_session(self, progress: Progress) -> Session:
        seconds = self._settings.connect_timeout
        try:
            async with asyncio.timeout(seconds):
                if self._tokens is None:
                    session = await open_session(self._server, self._login, progress)
                else:
                    session = await self._open_by_token(self._tokens, progress)
        except TimeoutError:
            raise Unavailable(f"{self._server.name} was not ready for a mail within {seconds:g} s") from None
        if not session.is_logged_in and self._settings.username and not self._has_reported_login:
            self._has_reported_login = True
            log.warning("smtp.no_login", provider=self._name, server=self._server.name, hint=_NO_LOGIN)
        return session

    async def _open_by_token(self, tokens: Tokens, progress: Progress) -> Session:
        """Log in by OAuth2; a token that was accepted before and is refused now is replaced, once."""
        while True:
            token = await tokens.get()
            login = Login(self._settings.username or "", token.text, ("XOAUTH2",))
            try:
                session = await open_session(self._server, login, progress)
            except ReplyError as error:
                if error.command is Command.AUTH and error.code == _BAD_CREDENTIALS and tokens.discard(token):
                    continue
                raise
            token.accepted = session.is_logged_in
            return session

    def _report_broken(self, extension: Extension) -> None:
        log.warning(
            "smtp.extension_broken",
            provider=self._name,
            server=self._server.name,
            extension=extension,
            hint=f"mails are sent without it for six hours; {extension.lower()} = false leaves it out for good",
        )


def _server(settings: Settings) -> Server:
    egress, proxy_context = settings.egress, None
    if egress.proxy and egress.proxy.scheme == "https":
        proxy_context = ssl.create_default_context()
        if settings.ca_file is not None:  # either the system's authorities or these may have signed its certificate
            proxy_context.load_verify_locations(settings.ca_file)
    return Server(
        settings.host,
        settings.port,
        settings.tls,
        context=settings.tls_context(),
        server_name=settings.servername or "",
        helo_name=settings.helo_name,
        local_address=egress.local_address,
        proxy_url=egress.proxy.url if egress.proxy else "",
        proxy_context=proxy_context,
    )


def _avoided(settings: Settings) -> tuple[Extension, ...]:
    """Return the extensions that are not to be used."""
    allowed: dict[Extension, bool] = {"PIPELINING": settings.pipelining, "CHUNKING": settings.chunking}
    return tuple(extension for extension, is_allowed in allowed.items() if not is_allowed)


def _token_source(settings: Settings, context: ProviderContext) -> Tokens | None:
    """Return the source of OAuth2 tokens, which are requested over the same network path as mails are sent."""
    if settings.oauth2 is None:
        return None
    from mailroom.providers.http.transport import Transport  # noqa: PLC0415 - aiohttp, only for OAuth2

    transport = Transport(settings.egress, context.clock)
    return Tokens(settings.oauth2, username=settings.username or "", transport=transport, context=context)


def _header_lines(headers: Mapping[str, str | tuple[str, ...]]) -> bytes:
    """Return header lines; text beyond ASCII as encoded words (RFC 2047)."""
    lines = []
    for name, given in headers.items():
        for value in (given,) if isinstance(given, str) else given:
            text = value if value.isascii() else Header(value, "utf-8", header_name=name).encode(linesep="\r\n")
            lines.append(f"{name}: {text}\r\n")
    return "".join(lines).encode("ascii")


@lru_cache(maxsize=64)
def _envelope_sender(address: str) -> str:
    try:
        return ascii_form(address)
    except ValueError:
        raise Misconfigured("the sender's address (`from`) cannot be written in SMTP") from None


def _receipt(reply: Reply) -> Receipt:
    text = diagnostic(reply)
    match = _QUEUED.search(text)
    return Receipt(match[1] if match else "", text)


connect = Smtp
