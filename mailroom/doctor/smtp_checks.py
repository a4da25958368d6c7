"""Checks of an SMTP server: whether it waits for TLS, and whether it takes our HELO name and our sender."""

from typing import Final, Literal

from mailroom.doctor.check_results import CheckResult, good, unknown, wrong
from mailroom.errors import Misconfigured, Rejected, SendingError
from mailroom.providers import ProviderContext
from mailroom.providers.smtp.smtp_provider import Settings, Smtp

_SECONDS: Final = 5.0
"""To connect the other way: a server answers the right one at once."""
_REMEDIES: Final = {
    "implicit": "it waits for TLS from the first octet",
    "starttls": "it begins in clear and offers STARTTLS",
}


async def wrong_tls(settings: Settings, context: ProviderContext) -> CheckResult | None:
    """Connect the other way, implicit TLS instead of STARTTLS or the reverse, without logging in.

    Return the fault in `tls` if that works, else None.
    """
    tls: Literal["implicit", "starttls"] = "starttls" if settings.tls == "implicit" else "implicit"
    changes = {"tls": tls, "tls_verify": False, "connect_timeout": _SECONDS}
    without_login = {"username": None, "password": None, "oauth2": None}
    other = Smtp(settings.model_copy(update=changes | without_login), context)
    try:
        await other.verify()
    except SendingError:
        return None
    finally:
        await other.aclose()
    text = f"{settings.host}:{settings.port} does not understand us: {_REMEDIES[tls]}"
    return wrong("credentials", text, f'set tls = "{tls}" in [providers.{context.name}]')


async def check_envelope(provider: Smtp, name: str, address: str) -> CheckResult:
    """Name a mail from and to this address, and send none: many servers judge HELO and sender only then."""
    try:
        await provider.verify_envelope(address)
    except Rejected as error:
        return unknown("envelope", str(error), f"{address} takes no mail: set reply_to if readers may answer")
    except SendingError as error:
        if isinstance(error, Misconfigured) or "helo_name" in error.hint:
            hint = error.hint or "this is the message of the server"
            return wrong("envelope", str(error), f"correct [providers.{name}]: {hint}")
        return unknown("envelope", str(error), error.hint or "`mailroom send` tries it with a mail")
    return good("envelope", f"the server would take a mail from {address}")
