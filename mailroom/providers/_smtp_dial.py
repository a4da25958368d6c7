"""Opens an SMTP session: connect, encrypt, log in. What fails here is never the mail's fault."""

import asyncio
import base64
import errno
import re
import socket
import ssl
from ipaddress import ip_address
from typing import Final, cast

import aiosmtplib

from mailroom.errors import Misconfigured, SendingError, Unavailable
from mailroom.providers._smtp_replies import Reply, Stage, refusal
from mailroom.providers._smtp_session import Session
from mailroom.providers._smtp_settings import Settings
from mailroom.providers._smtp_wire import Wire
from mailroom.providers._words import bounded

_FULL_NAME: Final = re.compile(r"(?=.{1,255}\Z)[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_NOT_UNDERSTOOD: Final = frozenset({500, 502, 504})


class Dialler:
    """Opens sessions to the one server that the settings name."""

    def __init__(self, settings: Settings) -> None:
        """Read what the settings say; nothing is dialled."""
        self._settings = settings
        self._where = f"{settings.host}:{settings.port}"
        self._context = None if settings.tls == "none" else settings.tls_context()

    async def dial(self) -> Session:
        """Return a session that is ready for its first mail. Raises Misconfigured or Unavailable."""
        settings = self._settings
        client = aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            local_hostname="localhost",  # replaced below; without one it would ask the DNS
            source_address=(str(settings.local_address), 0) if settings.local_address else None,
            use_tls=settings.tls == "implicit",
            start_tls=False,  # done below: left to itself it logs in in clear where STARTTLS is missing
            tls_context=self._context,
            timeout=None,
        )
        try:
            async with asyncio.timeout(settings.connect_timeout):
                await self._open(client)
            return self._taken_over(client)
        except TimeoutError:
            client.close()
            raise Unavailable(f"{self._where} was not ready for a mail within {settings.connect_timeout:g} s") from None
        except BaseException:
            client.close()
            raise

    def _taken_over(self, client: aiosmtplib.SMTP) -> Session:
        if client.transport is None or client.transport.is_closing():
            raise Unavailable(f"{self._where} closed the connection before it took a mail")
        return Session(Wire(cast("asyncio.Transport", client.transport)), client.esmtp_extensions)

    async def _open(self, client: aiosmtplib.SMTP) -> None:
        stage = Stage.GREETING
        try:
            await client.connect()
            client.local_hostname = self._settings.helo_name or _own_name(client)
            stage = Stage.EHLO
            await _greet(client)
            if self._wants_starttls(client):
                stage = Stage.STARTTLS
                await client.starttls()
                stage = Stage.EHLO  # what was said in clear does not count (RFC 3207 §4.2)
                await _greet(client)
            if self._settings.password is not None:
                stage = Stage.AUTH
                await self._log_in(client, self._settings.username or "", self._settings.password.get_secret_value())
        except aiosmtplib.SMTPResponseException as error:
            raise self._refusal(stage, error) from None
        except aiosmtplib.SMTPTimeoutError:
            raise TimeoutError from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise self._failure(stage, error.__cause__ or error) from None

    def _wants_starttls(self, client: aiosmtplib.SMTP) -> bool:
        offered = client.supports_extension("starttls")
        if self._settings.tls == "starttls" and not offered:
            raise Misconfigured(
                f'{self._where} offers no STARTTLS; if it encrypts from the first byte (port 465), say tls = "implicit"'
            )
        return offered and self._settings.tls in ("starttls", "opportunistic")

    async def _log_in(self, client: aiosmtplib.SMTP, username: str, password: str) -> None:
        is_clear = client.get_transport_info("sslcontext") is None
        if is_clear and self._settings.tls != "none" and not self._settings.is_loopback:
            raise Misconfigured(
                f'{self._where} offers no STARTTLS, and the password is not sent in clear unless tls = "none"'
            )
        offered = client.server_auth_methods
        ways = ("plain", "login") if self._settings.auth == "auto" else (self._settings.auth,)
        way = next((way for way in ways if way in offered), None)
        if way is None:
            raise Misconfigured(
                f"{self._where} does not let us log in by {' or '.join(ways).upper()}; "
                f"it offers: {bounded(' '.join(offered).upper()) or 'no login at all'}"
            )
        await (client.auth_plain if way == "plain" else client.auth_login)(username, password)

    def _refusal(self, stage: Stage, error: aiosmtplib.SMTPResponseException) -> SendingError:
        if error.code < 0:
            return Unavailable(f"{self._where} answered something that is not SMTP")
        lines = tuple(error.message.split("\n"))
        refused = refusal(stage, Reply(error.code, lines))
        if stage is Stage.AUTH and self._repeats_credentials(error.message):
            return type(refused)(
                f"{refused.code} (the words are not kept: they repeat the password)", code=refused.code
            )
        return refused

    def _repeats_credentials(self, text: str) -> bool:
        assert self._settings.password is not None  # only a login can be refused
        password = self._settings.password.get_secret_value()
        both = f"\0{self._settings.username}\0{password}"
        forms = (password, *(base64.b64encode(form.encode()).decode().rstrip("=") for form in (password, both)))
        squeezed = "".join(text.split())
        return any(form in text or form in squeezed for form in forms)

    def _failure(self, stage: Stage, error: BaseException) -> SendingError:
        kind: type[SendingError] = Unavailable
        match error:
            case ssl.SSLCertVerificationError():
                kind = Misconfigured
                words = (
                    f"the certificate of {self._where} is not valid: {bounded(error.verify_message)}; "
                    "if it is signed by an authority of your own, name its file in ca_file"
                )
            case ssl.SSLError() if not isinstance(error, ssl.SSLEOFError):
                kind = Misconfigured
                reason = (error.reason or "unknown").replace("_", " ").lower()
                words = f"no encryption with {self._where}: {reason}; do port and tls belong together?"
            case socket.gaierror():
                # A name that does not exist is Unavailable too: container networks answer so for a relay that restarts,
                # and codes must not wait minutes for it. The words tell the operator who misspelt it.
                words = f"the host name {self._settings.host} cannot be resolved: {error.strerror}"
            case OSError(errno=errno.EADDRNOTAVAIL) if self._settings.local_address is not None:
                kind = Misconfigured
                words = f"this machine cannot send from local_address {self._settings.local_address}"
            case OSError(errno=int()) if stage is Stage.GREETING:
                words = f"cannot connect to {self._where}: {bounded(error.strerror or str(error))}"
            case _:
                words = f"{self._where} ended the connection at {stage}: {bounded(str(error))}"
        return kind(words)


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
