"""A name server on loopback, with the zones of a test."""

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Final

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

SILENT: Final = "SILENT"
"""As a record: there is no response."""
BROKEN: Final = "BROKEN"
"""As a record: SERVFAIL."""

Zones = Mapping[tuple[str, str], Sequence[str]]
"""(name, type) → records in a zone file's format."""

_LONGEST_TXT: Final = 255


def txt(text: str) -> str:
    """Return a TXT record in a zone file's format: strings of at most 255 octets each."""
    strings = [text[at : at + _LONGEST_TXT] for at in range(0, len(text), _LONGEST_TXT)] or [""]
    escaped = (string.replace("\\", "\\\\").replace('"', '\\"') for string in strings)
    return " ".join(f'"{string}"' for string in escaped)


@dataclass
class NameServer:
    """Responds to queries for its zones; other names do not exist."""

    port: int
    zones: dict[tuple[str, str], Sequence[str]] = field(default_factory=dict)
    queries: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, wire: bytes) -> bytes | None:
        """Return the response to a query."""
        query = dns.message.from_wire(wire)
        (question,) = query.question
        kind = dns.rdatatype.to_text(question.rdtype)
        answer = dns.message.make_response(query, recursion_available=True)
        name = question.name.to_text(omit_final_dot=True).lower()
        self.queries.append((name, kind))
        owner = question.name
        for _ in range(8):
            if (alias := self.zones.get((name, "CNAME"))) is None:
                break
            answer.answer.append(dns.rrset.from_text(owner, 60, "IN", "CNAME", f"{alias[0]}."))
            name = alias[0]
            owner = dns.name.from_text(name)
        found = self.zones.get((name, kind))
        if found == [SILENT]:
            return None
        if found == [BROKEN]:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif found:
            answer.answer.append(dns.rrset.from_text_list(owner, 60, "IN", kind, list(found)))
        elif not any(known == name or known.endswith(f".{name}") for known, _ in self.zones):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer.to_wire(max_size=65535)


@contextmanager
def name_server(zones: Zones) -> Iterator[NameServer]:
    """Listen on a free port until the test ends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        server = NameServer(sock.getsockname()[1], dict(zones))

        def serve() -> None:
            while True:
                wire, peer = sock.recvfrom(65535)
                if not wire:
                    return
                if (answer := server.answer(wire)) is not None:
                    sock.sendto(answer, peer)

        thread = Thread(target=serve)
        thread.start()
        try:
            yield server
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", ("127.0.0.1", server.port))
            thread.join()
