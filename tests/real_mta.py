"""Debian's Postfix as a relay of its own: it offers CHUNKING, and its log counts the commands that came.

async with postfix() as relay:
    receipt = await connect(Settings(**relay.settings), surroundings()).send(email())
    (await relay.delivered(receipt)).content
"""

import asyncio
import contextlib
import os
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from mailroom.message import Receipt
from tests.ports import free_port
from tests.smtp_server import authority

HOST: Final = "127.0.0.1"
MOST_OCTETS: Final = 1_000_000

KNOWN: Final = ("ada@reader.example", "eve@reader.example")
LATER: Final = "later@reader.example"
"""Greylisted."""
UNKNOWN: Final = "nobody@reader.example"
ELSEWHERE: Final = "ada@elsewhere.example"
"""Of a domain that is not relayed to."""
NOT_OURS: Final = "no-reply@elsewhere.example"
"""A sender that is refused at MAIL."""

_WITHIN: Final = 30
"""Seconds until something must be in the log; it takes a tenth of one."""
_ALIVE_SECONDS: Final = 300
"""Postfix ends by itself after so long, should nobody be left who could stop it."""
_TRACE: Final = re.compile(rb"Received: [^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*")
_BROKEN: Final = re.compile(r"(?:fatal|panic): |killed by signal (?!15)")

_MAIN = """\
compatibility_level = 3.6
queue_directory = {place}/queue
data_directory = {place}/data
maillog_file = /dev/stdout
myhostname = mx.test
mydestination =
mynetworks =
alias_maps =
local_recipient_maps =
inet_interfaces = {host}
inet_protocols = ipv4
smtpd_peername_lookup = no
enable_long_queue_ids = yes
message_size_limit = {most}
relay_domains = reader.example
relay_recipient_maps = inline:{{ {known} }}
relay_transport = file
smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions = check_recipient_access inline:{{ {{ {later} = 450 4.2.1 come back in a minute }} }}
smtpd_sender_restrictions = check_sender_access inline:{{ {{ {not_ours} = 550 5.7.1 not one of ours }} }}
smtpd_delay_reject = no
# As strict as it gets; newer versions are so by themselves.
smtpd_forbid_unauth_pipelining = yes
smtpd_forbid_bare_newline = reject
smtpd_forbid_bare_newline_exclusions =
# It would sleep before each reply after ten errors; the connection ends after twenty, as usual.
smtpd_error_sleep_time = 0
smtpd_discard_ehlo_keywords = {without}
smtpd_tls_security_level = may
smtpd_tls_chain_files = {place}/chain.pem
smtpd_tls_received_header = yes
"""

_MASTER = """\
{host}:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
tlsmgr unix - - n - 1 tlsmgr
anvil unix - - n - 1 anvil
defer unix - - n - 0 bounce
postlog unix-dgram n - n - 1 postlogd
file unix - n n - - pipe flags= user=nobody eol=\\r\\n argv=dd status=none of={place}/mails/${{queue_id}}
"""


def missing() -> str:
    """Return why Postfix cannot run here; empty: it can, if we are root."""
    return "" if shutil.which("postfix") else "postfix is not installed: no mail goes through a real relay"


@dataclass(frozen=True, slots=True)
class Delivered:
    """A mail as Postfix handed it on."""

    trace: bytes
    """The header that Postfix set before it."""
    content: bytes


class Relay:
    """The running Postfix."""

    def __init__(self, place: Path, port: int, process: asyncio.subprocess.Process) -> None:
        self.settings: dict[str, Any] = {"host": HOST, "port": port, "ca_file": place / "ca.pem"}
        """How it is reached."""
        self._mails = place / "mails"
        self._process = process
        self._log: list[str] = []

    async def started(self) -> None:
        """Return when it listens."""
        await self._logged("daemon started")

    async def delivered(self, receipt: Receipt) -> Delivered:
        """Return the mail that was acknowledged so, once it was handed on."""
        name = receipt.provider_message_id
        await self._logged(f"{re.escape(name)}: removed")
        raw = (self._mails / name).read_bytes()
        trace = _TRACE.match(raw)
        assert trace, raw[:500]
        return Delivered(trace[0], raw[trace.end() :])

    async def session(self) -> dict[str, int]:
        """Wait for the end of a session; return how often each command came in it, by its name in lower case."""
        counts = (await self._logged(r"disconnect from \S+ (.+)"))[1]
        commands = {}
        for count in counts.split():
            command, _, number = count.partition("=")
            commands[command] = int(number.rpartition("/")[2])  # `bdat=2/3`: three came, two were carried out
        del commands["commands"]
        return commands

    async def ended(self) -> None:
        """Stop it. Raises AssertionError if one of its processes broke down."""
        if self._process.returncode is None:
            self._process.terminate()
        rest, _ = await self._process.communicate()
        log = "".join(self._log) + rest.decode()
        assert not _BROKEN.search(log), log

    async def _logged(self, wanted: str) -> re.Match[str]:
        """Return the first line with it that was not returned before."""
        assert self._process.stdout is not None
        seen = 0
        try:
            async with asyncio.timeout(_WITHIN):
                while True:
                    for number, line in enumerate(self._log[seen:], seen):
                        if found := re.search(wanted, line):
                            del self._log[number]
                            return found
                    seen = len(self._log)
                    line = (await self._process.stdout.readline()).decode()
                    assert line, "Postfix ended"
                    self._log.append(line)
        except (TimeoutError, AssertionError):
            raise AssertionError(f"no {wanted!r} in the log:\n{''.join(self._log)}") from None


@contextlib.asynccontextmanager
async def postfix(*, without: str = "") -> AsyncIterator[Relay]:
    """Run Postfix without offering these extensions: `chunking`, `size pipelining`."""
    with TemporaryDirectory() as folder:
        place = Path(folder)
        port = free_port()
        _furnish(place, port, without)
        await _run("postfix", "-c", f"{place}/conf", "check")  # makes the folders of the queue
        daemons = (await _run("postconf", "-dh", "daemon_directory")).strip()
        command = (f"{daemons}/master", "-c", f"{place}/conf", "-s", "-e", str(_ALIVE_SECONDS))
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        relay = Relay(place, port, process)
        try:
            await relay.started()
            yield relay
        finally:
            await relay.ended()


def _furnish(place: Path, port: int, without: str) -> None:
    """Write what Postfix reads, and make the folders that its several users write to."""
    place.chmod(0o755)
    for name, owner in {"conf": "root", "queue": "root", "data": "postfix", "mails": "nobody"}.items():
        (place / name).mkdir()
        shutil.chown(place / name, owner)
    known = " ".join(f"{{ {address} = known }}" for address in (*KNOWN, LATER))
    names = {"later": LATER, "not_ours": NOT_OURS, "known": known, "most": MOST_OCTETS, "without": without}
    (place / "conf" / "main.cf").write_text(_MAIN.format(place=place, host=HOST, **names))
    (place / "conf" / "master.cf").write_text(_MASTER.format(place=place, host=HOST, port=port))
    for written in (place / "conf").iterdir():
        os.utime(written, (0, 0))  # Postfix reads a file again and again until it is two seconds old
    authority().cert_pem.write_to_path(place / "ca.pem")
    authority().issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(place / "chain.pem")


async def _run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()
