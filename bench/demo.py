"""Goes the whole way once: starts a server of its own, posts a request as Logto's connector does, shows the mail."""

import json
import socket
import subprocess
import sys
import tempfile
import time
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]
REQUEST = {
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
STARTS_WITHIN_SECONDS = 20
CAUGHT_WITHIN_SECONDS = 10


def main() -> int:
    """Show it; 1: something did not work."""
    with (
        tempfile.TemporaryDirectory(prefix="mailroom-demo-") as directory,
        socket.create_server(("127.0.0.1", 0)) as door,
    ):
        log = Path(directory) / "log"
        with log.open("wb") as file:
            server = subprocess.Popen(
                [sys.executable, str(ROOT / "server.py"), "--dev", "--fd", str(door.fileno())],
                cwd=directory,
                pass_fds=(door.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{door.getsockname()[1]}", trust_env=False) as logto:
                _wait(logto, server)
                show(logto)
        except (httpx.HTTPError, TimeoutError) as error:
            print(f"{error}; the server said:\n\n{_indented(log.read_text())}", file=sys.stderr)
            return 1
        finally:
            server.kill()
            server.wait()
    return 0


def show(logto: httpx.Client) -> None:
    """Post, wait for the mail, print both. Raises httpx.HTTPError or TimeoutError."""
    print(f"Logto posts to /email\n\n{_indented(json.dumps(REQUEST, indent=2))}\n")
    began = time.perf_counter()
    answer = logto.post("/email", json=REQUEST).raise_for_status()
    milliseconds = (time.perf_counter() - began) * 1000
    print(f"Mailroom answers {answer.status_code} after {milliseconds:.1f} ms, the message is on disk\n")
    print(f"{_indented(answer.text)}\n")
    mail = _caught(logto, answer.json()["id"])
    body = mail.get_body(("plain",))
    text = body.get_content() if isinstance(body, EmailMessage) else "(no text part)"
    print("and writes\n")
    print(_indented("\n".join(f"{name}: {mail[name]}" for name in ("From", "To", "Subject"))))
    print(f"\n{_indented(text.strip())}\n")
    print("To see it as its reader does: `make run`, post, and open http://localhost:8000/console/captured")


def _wait(logto: httpx.Client, server: subprocess.Popen[bytes]) -> None:
    """Return when the server is ready; what asks before waits in the socket. Raises TimeoutError if it will not be."""
    for _ in range(STARTS_WITHIN_SECONDS):
        if server.poll() is not None:
            break
        try:
            if logto.get("/readyz", timeout=1).status_code == httpx.codes.OK:
                return
        except httpx.TimeoutException:
            continue
    raise TimeoutError("it did not start")


def _caught(logto: httpx.Client, identifier: str) -> EmailMessage:
    """Return the mail once `capture` has it, some milliseconds after the answer."""
    until = time.monotonic() + CAUGHT_WITHIN_SECONDS
    while time.monotonic() < until:
        answer = logto.get(f"/console/captured/{identifier}.eml")
        if answer.status_code == httpx.codes.OK:
            return message_from_bytes(answer.content, EmailMessage, policy=default)
        time.sleep(0.02)
    raise TimeoutError(f"no mail within {CAUGHT_WITHIN_SECONDS} s")


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


if __name__ == "__main__":
    sys.exit(main())
