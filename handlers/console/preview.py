"""A local page that previews the operator's templates: pickers, an editable payload, and the rendered mail.

    app = Preview(context, kind="SignIn", language="en", sample=Sample.FULL).app()

`mailroom preview --open` serves it on loopback. Pages of other sites cannot use it: only the host names of this machine
are accepted, and payloads only as JSON, which no form can post.
"""

import json
import secrets
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from handlers import request_body
from handlers.responses import RequestError
from mailroom.lint import Finding
from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.samples import Sample
from mailroom.preview import LOOKS, sample_payload, view
from mailroom.preview.preview_files import environment

_HEADERS: Final = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'",
}


class Preview:
    """The page `/`, and `/view`, which renders one mail for it."""

    def __init__(self, context: LintContext, *, kind: str, language: str, sample: Sample) -> None:
        """`kind`, `language` and `sample` are selected at first."""
        self._context = context
        self._chosen = {"kind": kind, "language": language, "sample": sample.value}
        self._environment = environment()

    def app(self) -> Starlette:
        """Return the page as an app for loopback."""
        return Starlette(
            routes=[Route("/", self.page), Route("/view", self.view, methods=["POST"])],
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1"])],
        )

    async def page(self, _request: Request) -> Response:
        """Return the page; its script fetches `/view`."""
        nonce = secrets.token_urlsafe(16)
        html = self._environment.get_template("page.html").render(
            nonce=nonce,
            kinds={name: list(tags) for name, tags in self._context.inventory.kinds.items()},
            samples=[one.value for one in Sample],
            looks=LOOKS,
            chosen=self._chosen,
        )
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; img-src https: data:; "
            "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return HTMLResponse(html, headers={**_HEADERS, "content-security-policy": policy})

    async def view(self, request: Request) -> Response:
        """Render one mail: `{"kind", "language", "sample", "payload"}`, the payload as JSON text or null."""
        if request.headers.get("content-type") != "application/json":
            return _error(415, "The preview takes JSON.")
        try:
            fields = json.loads(await request_body.body(request.scope, request.receive))
            kind, language, sample = str(fields["kind"]), str(fields["language"]), Sample(fields["sample"])
            payload = fields.get("payload")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return _error(400, "This is not a request of the preview's page.")
        except RequestError as error:
            return _error(error.response.status, error.response.sentence)
        if language not in self._context.inventory.kinds.get(kind, ()):
            return _error(404, "There is no such kind in this language.")
        return JSONResponse(self._rendered(kind, language, sample, payload), headers=_HEADERS)

    def _rendered(self, kind: str, language: str, sample: Sample, text: Any) -> dict[str, Any]:
        if text is None:
            text = sample_payload(self._context, kind, language, sample)
        try:
            payload = json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            return {"error": f"The payload is no JSON: {error}"}
        if not isinstance(payload, dict):
            return {"error": "The payload is a JSON object: {…}"}
        result = view(self._context, kind, language, sample, payload)
        if isinstance(result, Finding):
            return {"payload": text, "error": f"{result.place}: {result.problem}".removeprefix(": ")}
        return {"payload": text, **result.as_json()}


def _error(status: int, sentence: str) -> Response:
    return PlainTextResponse(sentence, status_code=status, headers=_HEADERS)
