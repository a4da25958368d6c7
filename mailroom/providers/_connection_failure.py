"""Says what it means, in a sentence for the operator, that a connection could not be made."""

import errno
import socket
import ssl

from mailroom.errors import Misconfigured, SendingError, Unavailable
from mailroom.providers._egress import Egress
from mailroom.providers._words import bounded


def connection_failure(where: str, error: OSError, egress: Egress, *, tls_hint: str = "") -> SendingError:
    """Return Misconfigured for what the operator must change, else Unavailable.

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
            # Unavailable although it may be misspelt: container networks answer so while a host restarts.
            needed = f" to an IPv{local.version} address, which local_address needs" if local else ""
            return Unavailable(f"the host name of {where} cannot be resolved{needed}: {error.strerror}")
        case OSError(errno=errno.EADDRNOTAVAIL) if local is not None:
            return Misconfigured(f"this machine cannot send from local_address {local}")
    reason = bounded(error.strerror or str(error)) or "the connection was closed"
    return Unavailable(f"cannot connect to {where}: {reason}")
