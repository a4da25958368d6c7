"""Converts the SMTP client's errors to ours; `mailroom.providers.refusals` has the table of replies."""

import re
from functools import lru_cache
from typing import Final

from mailroom.errors import Declined, Misconfigured, SendingError, Unavailable, Uncertain
from mailroom.providers.connection_failure import connection_failure, proxy_failure
from mailroom.providers.refusals import TOO_LARGE, classify
from mailroom.providers.smtp.smtp_settings import Settings
from mailroom.smtpclient import (
    Command,
    ConnectionFailed,
    ConnectionLost,
    NotOffered,
    ProxyRefused,
    Reply,
    ReplyError,
    SmtpError,
    TooLarge,
)
from mailroom.text import bounded

_TLS_HINT: Final = "; do port and tls belong together?"
_NO_SMTPUTF8: Final = "add a provider whose server offers SMTPUTF8"


def refusal(command: Command, reply: Reply) -> SendingError:
    """Return the error for a reply that is not the expected one."""
    text = diagnostic(reply)
    return classify(command, reply.code, reply.enhanced_code, text).error(text, code=full_code(reply))


def sending_error(error: SmtpError, settings: Settings) -> SendingError:  # noqa: PLR0911 - a table
    """Return our error for one of the SMTP client."""
    where = f"{settings.host}:{settings.port}"
    match error:
        case ReplyError() if not error.handed_over:
            return refusal(error.command, error.reply)
        case ReplyError():
            return Uncertain(f"handed over, then: {diagnostic(error.reply)}", code=full_code(error.reply))
        case ConnectionLost() if error.handed_over:
            return Uncertain(f"handed over, then: {bounded(error.text)}")
        case ConnectionFailed():
            return connection_failure(error.where, error.cause, settings.egress, tls_hint=_TLS_HINT)
        case ProxyRefused():
            return proxy_failure(error.scheme, error.code, error.text)
        case NotOffered():
            return _not_offered(where, error, settings)
        case TooLarge():
            return Declined(str(error), hint=TOO_LARGE)
    return (Uncertain if error.handed_over else Unavailable)(f"{where}: {bounded(str(error))}")


def _not_offered(where: str, error: NotOffered, settings: Settings) -> SendingError:
    if error.extension == "SMTPUTF8":
        kind = Misconfigured if error.wanted == "for the sender" else Declined
        return kind("the server does not take addresses beyond ASCII (it offers no SMTPUTF8)", hint=_NO_SMTPUTF8)
    if error.extension == "AUTH":
        offered = bounded(error.offered) or "no login at all"
        return Misconfigured(f"{where} does not let us log in by {error.wanted}; it offers: {offered}")
    hint = (
        'if it encrypts from the first byte (port 465), say tls = "implicit"'
        if settings.tls == "starttls"
        else 'the password is not sent in clear unless tls = "none"'
    )
    return Misconfigured(f"{where} offers no STARTTLS; {hint}")


def full_code(reply: Reply) -> str:
    """Return both codes: `550 5.1.1`."""
    return f"{reply.code} {reply.enhanced_code}".rstrip()


def diagnostic(reply: Reply) -> str:
    """Return the reply on one line, printable, at most 500 characters, without the codes that its lines repeat."""
    code = full_code(reply)
    repeated = _repeated(code)
    return bounded(" ".join((code, *(repeated.sub("", line, count=1) for line in reply.lines))))


@lru_cache(maxsize=64)
def _repeated(full_code: str) -> re.Pattern[str]:
    code, _, enhanced_code = full_code.partition(" ")
    enhanced = rf"(?:#?{re.escape(enhanced_code)}(?:[\s:]+|\Z))?" if enhanced_code else ""
    return re.compile(rf"(?:\s*(?:{code}(?:[\s-]+|\Z))?{enhanced})+")
