"""Returns the error, with a sentence for the operator, for a connection that could not be made."""

import errno
import socket
import ssl
from typing import Final

from mailroom.errors import Misconfigured, SendingError, Unavailable
from mailroom.providers.egress import Egress
from mailroom.text import bounded

_REFUSES_US: Final = {"HTTP": {400, 401, 403, 405, 407}, "SOCKS5": {2}}
"""HTTP statuses; replies of RFC 1928 §6: connection not allowed by ruleset."""


def connection_failure(where: str, error: OSError, egress: Egress, *, tls_hint: str = "") -> SendingError:
    """Return Misconfigured if the operator must change something, else Unavailable.

    `where` is the host and port, or the proxy's; `tls_hint` ends the sentence about a failed TLS handshake.
    """
    local = egress.local_address
    match error:
        case ssl.SSLCertVerificationError():
            return Misconfigured(
                f"the certificate of {where} is not valid: {bounded(error.verify_message)}; "
                "if it is signed by an authority of your own, name its file in ca_file"
            )
        case ssl.SSLError() if not isinstance(error, ssl.SSLEOFError):
            reason = (error.reason or "unknown").replace("_", " ").lower()
            return Misconfigured(f"no encryption with {where}: {bounded(reason)}{tls_hint}")
        case socket.gaierror():
            # Unavailable although it may be misspelt: container networks return it while a host restarts.
            needed = f" to an IPv{local.version} address, which local_address needs" if local else ""
            return Unavailable(f"the host name of {where} cannot be resolved{needed}: {error.strerror}")
        case OSError(errno=errno.EADDRNOTAVAIL) if local is not None:
            return Misconfigured(f"this machine cannot send from local_address {local}")
    reason = bounded(error.strerror or str(error)) or "the connection was closed"
    return Unavailable(f"cannot connect to {where}: {reason}")


def proxy_failure(scheme: str, code: int | None, text: str) -> SendingError:
    """Return the error for a proxy that opens no tunnel.

    `code` is the HTTP status or SOCKS5's reply; None if the proxy's response has none: it refuses the authentication
    (RFC 1928 §3, RFC 1929) or does not speak the protocol.
    """
    protocol = "HTTP" if scheme.startswith("http") else "SOCKS5"
    reason = bounded(text)
    if code is None:
        kind = Misconfigured if "auth" in reason.lower() else Unavailable
        return kind(f"the proxy opens no tunnel; does it speak {protocol}? {reason}", code=protocol)
    kind = Misconfigured if code in _REFUSES_US[protocol] else Unavailable
    return kind(f"the proxy opens no tunnel: {reason}", code=str(code) if protocol == "HTTP" else f"SOCKS5 {code}")
