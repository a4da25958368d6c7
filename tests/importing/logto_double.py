"""A fake Logto on loopback: token endpoint and Management API, which check requests as the real ones do.

Shapes: RFC 6749 and Logto's OpenAPI (openapi.logto.io, operations ListConnectors and ListEmailTemplates); errors as
node-oidc-provider and Logto's koa-error-handler write them.
"""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

from tests.importing.parts import row, template_row

APP_ID = "m2m0app0id0made0up0xy"
APP_SECRET = "made-up-app-secret"
TOKEN = "eyJ.made.up"


def connector_row(name: str) -> dict[str, Any]:
    """Return a connector as `GET /api/connectors` lists it."""
    found = row(name)
    return {
        "id": "l0c9d8e7f6g5",
        "syncProfile": False,
        "enableTokenStorage": False,
        "config": found["config"],
        "metadata": {},
        "connectorId": found["connectorId"],
        "target": "smtp",
        "name": {"en": "SMTP"},
        "description": {"en": "The SMTP is an internet standard communication protocol."},
        "logo": "./logo.svg",
        "logoDark": None,
        "readme": "./README.md",
        "formItems": [],
        "platform": None,
        "type": "Email",
        "isDemo": False,
    }


SOCIAL = {
    "id": "google0000001",
    "connectorId": "google-universal",
    "type": "Social",
    "config": {"clientId": "x", "clientSecret": "made-up-google-secret"},
    "target": "google",
    "platform": "Universal",
}


@dataclass
class Logto:
    """Its state, and the requests that it received."""

    resource: str = "https://default.logto.app/api"
    connectors: Any = field(default_factory=lambda: [SOCIAL, connector_row("smtp")])
    templates: Any = field(default_factory=lambda: [template_row(), template_row(languageTag="de")])
    """None: a Logto older than 1.25, which has no such path."""
    scope: str = "all"
    raw: bytes | None = None
    """The body of every response, if given."""
    core: str | None = None
    """If given this is the admin console's address, and Logto's own is this."""
    requests: list[str] = field(default_factory=list)
    url: str = ""

    def token(self, authorization: str, form: dict[str, list[str]]) -> tuple[int, Any]:
        """Return status and body for a token request."""
        expected = "Basic " + base64.b64encode(f"{APP_ID}:{APP_SECRET}".encode()).decode()
        if authorization != expected:
            return 401, {"error": "invalid_client", "error_description": "client authentication failed"}
        if form.get("grant_type") != ["client_credentials"]:
            return 400, {"error": "unsupported_grant_type"}
        if form.get("resource") != [self.resource]:
            return 400, {"error": "invalid_target", "error_description": "resource indicator is missing, or unknown"}
        return 200, {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer", "scope": self.scope}

    def get(self, path: str, authorization: str) -> tuple[int, Any]:
        """Return status and body for a Management API request."""
        if path == "/api/.well-known/endpoints/default" and self.core:
            return 200, {"user": self.core}
        if authorization != f"Bearer {TOKEN}":
            return 401, {"code": "auth.unauthorized", "message": "Unauthorized."}
        if self.scope != "all":
            return 403, {"code": "auth.forbidden", "message": "Forbidden."}
        answer = {"/api/connectors": self.connectors, "/api/email-templates": self.templates}.get(path)
        return (200, answer) if answer is not None else (404, {"code": "guard.not_found"})


@contextmanager
def listening() -> Iterator[Logto]:
    """Listen on loopback."""
    logto = Logto()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(*logto.get(self.path, self.headers["authorization"] or ""))

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
            known = self.path == "/oidc/token"
            self._answer(*(logto.token(self.headers["authorization"] or "", form) if known else (404, {})))

        def _answer(self, status: int, answer: Any) -> None:
            logto.requests.append(f"{self.command} {self.path}")
            body = json.dumps(answer).encode() if logto.raw is None else logto.raw
            self.send_response(status)
            self.send_header("content-type", "application/json; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        logto.url = f"http://127.0.0.1:{server.server_port}"
        yield logto
        server.shutdown()
        thread.join()
