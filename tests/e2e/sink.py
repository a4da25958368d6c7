"""An SMTP server in a process of its own that prints a line of JSON for every mail.

    python sink.py [SECONDS]        how long it takes to accept a mail

    {"port": 40123}
    {"at": 1795253878.1, "recipient": "u1-329452@chaos.example", "whole": true}

`at` is when the mail was complete, in Unix seconds, before the reply to its sender. `whole`: its text part contains the
code that is in its recipient's name.
"""

import asyncio
import json
import sys
import time
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP


class Journal:
    """aiosmtpd's handler of mails."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def handle_DATA(self, _server: SMTP, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Print the mail's line, then accept it."""
        at = time.time()
        mail = message_from_bytes(envelope.content, EmailMessage, policy=default)
        body = mail.get_body(("plain",))
        text = str(body.get_content()) if isinstance(body, EmailMessage) else ""
        for recipient in envelope.rcpt_tos:
            code = recipient.partition("@")[0].rpartition("-")[2]
            print_line({"at": at, "recipient": recipient, "whole": code in text})
        await asyncio.sleep(self._seconds)
        return "250 accepted"


def print_line(line: dict[str, Any]) -> None:
    """Print a line at once."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def main(seconds: float) -> None:
    """Serve until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Journal(seconds)), "127.0.0.1", 0, backlog=1024)
    print_line({"port": server.sockets[0].getsockname()[1]})
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0))
