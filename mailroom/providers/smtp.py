"""SMTP: a provider's submission endpoint, or a relay of your own."""

import asyncio
import re
from collections.abc import Mapping
from email.header import Header
from functools import lru_cache
from typing import Final

from mailroom.address import ascii_form
from mailroom.errors import Misconfigured, Rejected, Unavailable, Uncertain
from mailroom.message import Email, Receipt
from mailroom.providers import Surroundings
from mailroom.providers._dkim import Signer
from mailroom.providers._smtp_dial import Dialler
from mailroom.providers._smtp_pool import Pool
from mailroom.providers._smtp_replies import Reply
from mailroom.providers._smtp_session import NotChunking, Session, Transaction
from mailroom.providers._smtp_settings import Settings
from mailroom.providers._smtp_wire import Lost
from mailroom.time_limit import TimeLimit

__all__ = ["Settings", "Smtp", "connect"]

_CHECK_AFTER_SECONDS: Final = 10
"""A session idle for longer is asked whether it lives: a firewall that forgot it would cost the mail its time-out."""
_CHECK_SECONDS: Final = 5
_ADDRESS: Final = re.compile(r"[^\x00-\x20\x7f-\xa0<>\ud800-\udfff]{1,320}")
_QUEUED: Final = re.compile(r"(?:queued as |\bOk:? )<?([\w.@+-]{6,200})>?\Z", re.IGNORECASE)


class Smtp:
    """Hands mails to one SMTP server, over at most `concurrency` connections."""

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        self._timeout = settings.timeout
        self._limit = TimeLimit(settings.timeout)
        self._who = f"{settings.host}:{settings.port} takes " + (
            f"the login of {settings.username}" if settings.username else "our connection without a login"
        )
        self._headers = _written(settings.headers)
        self._notify = ",".join(settings.dsn).upper()
        self._room = asyncio.Semaphore(settings.concurrency)
        self._dialler = Dialler(settings, surroundings.clock)
        self._signer = Signer(settings.dkim) if settings.dkim else None
        self._pool = Pool(
            surroundings.clock,
            idle_seconds=settings.idle_seconds,
            mails_per_connection=settings.mails_per_connection,
        )

    async def send(self, email: Email) -> Receipt:
        """Hand a mail over, see `Provider`; `timeout` bounds the whole, a free connection included."""
        transaction = self._transaction(email)
        try:
            with self._limit():
                async with self._room:
                    return _receipt(await self._hand_over(transaction))
        except TimeoutError:
            if transaction.refused is not None:
                raise transaction.refused from None
            kind = Uncertain if transaction.handed_over else Unavailable
            raise kind(f"no answer from the server within {self._timeout:g} s") from None

    async def verify(self) -> str:
        """Connect, encrypt, log in and ask whether the server lives, see `Verifiable`."""
        try:
            with self._limit():
                async with self._room:
                    session = await self._dialler.dial()
                    self._pool.add(session)
                    try:
                        await _check(session)
                    finally:
                        session.quit()
        except Lost as lost:
            raise Unavailable(lost.words, code=lost.code) from None
        except TimeoutError:
            raise Unavailable(f"no answer from the server within {self._timeout:g} s") from None
        return self._who

    async def aclose(self) -> None:
        """Close all connections; mails on their way are cut off."""
        await self._pool.aclose()
        await self._dialler.aclose()

    def _transaction(self, email: Email) -> Transaction:
        if not _ADDRESS.fullmatch(email.recipient):
            raise Rejected("the recipient's address cannot be written in SMTP")
        raw = self._headers + email.raw
        if self._signer is not None:
            raw = self._signer.signed(raw)
        return Transaction(_envelope_sender(email.sender.email), email.recipient, raw, email.id, self._notify)

    async def _hand_over(self, transaction: Transaction) -> Reply:
        if (session := self._pool.take()) is not None:
            try:
                return await self._send(session, transaction)
            except Lost:
                pass  # it died while it was idle: nobody's failure, and nothing was sent
        if self._pool.closed:
            raise Unavailable("this provider was closed")
        session = await self._dialler.dial()
        self._pool.add(session)
        try:
            return await self._send(session, transaction)
        except NotChunking:
            self._dialler.may_chunk = False
            return await self._hand_over(transaction)
        except Lost as lost:
            raise Unavailable(lost.words, code=lost.code) from None

    async def _send(self, session: Session, transaction: Transaction) -> Reply:
        try:
            if self._pool.idle_for(session) > _CHECK_AFTER_SECONDS:
                await _check(session)
            return await session.send(transaction)
        finally:
            self._pool.give_back(session)


async def _check(session: Session) -> None:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            await session.check()
    except TimeoutError:
        raise Lost("the connection is dead") from None


def _written(headers: Mapping[str, str | tuple[str, ...]]) -> bytes:
    """Return header lines; text beyond ASCII as encoded words (RFC 2047)."""
    lines = []
    for name, given in headers.items():
        for value in (given,) if isinstance(given, str) else given:
            written = value if value.isascii() else Header(value, "utf-8", header_name=name).encode(linesep="\r\n")
            lines.append(f"{name}: {written}\r\n")
    return "".join(lines).encode("ascii")


@lru_cache(maxsize=64)
def _envelope_sender(address: str) -> str:
    try:
        return ascii_form(address)
    except ValueError:
        raise Misconfigured("the sender's address (`from`) cannot be written in SMTP") from None


def _receipt(reply: Reply) -> Receipt:
    words = reply.words
    found = _QUEUED.search(words)
    return Receipt(found[1] if found else "", words)


connect = Smtp
