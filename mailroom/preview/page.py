"""Answers the preview's page: pickers, an editable payload, and the mail that they make. Knows requests, no sockets.

It is for one person on one machine, so the standard library's server does for it (`mailroom.cli.previewing`), and the
core stays without an HTTP server. A page of another site must not drive it: the name it is called by is checked, and
what it takes is JSON, which no form can post.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mailroom.checking import Finding
from mailroom.checking.making import Desk
from mailroom.checking.samples import Sample
from mailroom.preview import LOOKS, sample_payload, view
from mailroom.preview.files import environment

LARGEST: Final = 1 << 20
"""Octets of a payload, as on `/email`."""

_OURSELVES: Final = frozenset({"localhost", "127.0.0.1"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back."""

    status: int
    content_type: str
    body: bytes
    policy: str = "default-src 'none'"


class Page:
    """The page and what it asks for."""

    def __init__(self, desk: Desk, *, kind: str, language: str, sample: Sample) -> None:
        """Take what is chosen when it opens."""
        self._desk = desk
        self._chosen = kind, language, sample
        self._environment = environment()

    def answer(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """Return the answer to a request; header names are small."""
        if headers.get("host", "").rpartition(":")[0] not in _OURSELVES:
            return _refusal(403, "The preview answers under the name localhost only.")
        if (method, path) == ("GET", "/"):
            return self._page()
        if (method, path) != ("POST", "/view"):
            return _refusal(404, "There is nothing here.")
        if headers.get("content-type") != "application/json":
            return _refusal(415, "The preview takes JSON.")
        return self._view(body)

    def _page(self) -> Answer:
        nonce = secrets.token_urlsafe(16)
        kind, language, sample = self._chosen
        kinds = {name: list(tags) for name, tags in self._desk.inventory.kinds.items()}
        html = self._environment.get_template("page.html").render(
            nonce=nonce,
            kinds=kinds,
            samples=[one.value for one in Sample],
            looks=LOOKS,
            chosen={"kind": kind, "language": language, "sample": sample.value},
        )
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; img-src https: data:; "
            "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return Answer(200, "text/html; charset=utf-8", html.encode(), policy)

    def _view(self, body: bytes) -> Answer:
        try:
            asked = json.loads(body)
            kind, language, sample = str(asked["kind"]), str(asked["language"]), Sample(asked["sample"])
            written = asked.get("payload")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return _refusal(400, "That is no request of this page.")
        if language not in self._desk.inventory.kinds.get(kind, ()):
            return _refusal(404, "There is no such kind in this language.")
        if written is None:
            written = sample_payload(self._desk, kind, language, sample)
        try:
            given = json.loads(written)
        except (ValueError, TypeError, RecursionError) as error:
            return _json({"error": f"The payload is no JSON: {error}"})
        if not isinstance(given, dict):
            return _json({"error": "The payload is a JSON object: {…}"})
        found = view(self._desk, kind, language, sample, given)
        if isinstance(found, Finding):
            return _json({"payload": written, "error": f"{found.place}: {found.problem}".removeprefix(": ")})
        return _json({"payload": written, **found.as_json()})


def _json(value: Any) -> Answer:
    return Answer(200, "application/json", json.dumps(value).encode())


def _refusal(status: int, words: str) -> Answer:
    return Answer(status, "text/plain; charset=utf-8", words.encode())
