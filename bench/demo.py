"""`make demo`: starts a server, posts a request as Logto's connector does, and shows the mail."""

import json
import sys
import time
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Final

import httpx

from bench.processes import ROOT, Running, program

REQUEST: Final = {
    "to": "ada@example.com",
    "type": "SignIn",
    "payload": {
        "code": "329452",
        "locale": "en",
        "application": {"id": "x42ogopvrdataet06r5rt", "name": "Riverside Web"},
    },
    "ip": "203.0.113.7",
}
"""As a Logto 1.42 sent it."""
_CAPTURED_WITHIN_SECONDS: Final = 10


def main() -> int:
    """Show it; 1: something did not work."""
    try:
        with program(ROOT / "server.py", "--dev", variables={"MAILROOM_PORT": "{port}"}) as server:
            try:
                server.wait_until_ready()
                show(server)
            except (httpx.HTTPError, TimeoutError) as error:
                raise RuntimeError(f"{error}; the server's log:\n{server.log()}") from error
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def show(server: Running) -> None:
    """Post, wait for the mail, print both. Raises httpx.HTTPError or TimeoutError."""
    with httpx.Client(base_url=server.url, trust_env=False) as logto:
        print(f"Logto posts to /email\n\n{_indent(json.dumps(REQUEST, indent=2))}\n")
        began = time.perf_counter()
        response = logto.post("/email", json=REQUEST).raise_for_status()
        milliseconds = (time.perf_counter() - began) * 1000
        print(f"Mailroom answers {response.status_code} after {milliseconds:.1f} ms, the message is on disk\n")
        print(f"{_indent(response.text)}\n")
        mail = _captured(logto, response.json()["id"])
    body = mail.get_body(("plain",))
    text = body.get_content() if isinstance(body, EmailMessage) else "(no text part)"
    print("and renders\n")
    print(_indent("\n".join(f"{name}: {mail[name]}" for name in ("From", "To", "Subject"))))
    print(f"\n{_indent(text.strip())}\n")
    print("To see it as its reader does: `make run`, post, and open http://localhost:8000/console/captured")


def _captured(logto: httpx.Client, identifier: str) -> EmailMessage:
    """Return the mail once it is captured, some milliseconds after the response."""
    until = time.monotonic() + _CAPTURED_WITHIN_SECONDS
    while time.monotonic() < until:
        response = logto.get(f"/console/captured/{identifier}.eml")
        if response.status_code == httpx.codes.OK:
            return message_from_bytes(response.content, EmailMessage, policy=default)
        time.sleep(0.02)
    raise TimeoutError(f"no mail within {_CAPTURED_WITHIN_SECONDS} s")


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


if __name__ == "__main__":
    sys.exit(main())
