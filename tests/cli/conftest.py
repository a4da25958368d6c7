"""Runs commands with settings in the working directory, and with an outbox that is a list."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

from mailroom import providers
from mailroom.cli.context import CliContext, mailroom
from mailroom.clock import Instant
from mailroom.config import template_sources
from mailroom.config.model import Settings
from mailroom.errors import OutboxError
from mailroom.message import Attempt, Outcome, Priority, State
from mailroom.outbox import AttemptSummary, Depth, Record
from mailroom.outbox.operator_outbox import OperatorOutbox
from mailroom.outbox.shared import OpenBreaker
from mailroom.rendering.renderer import BUNDLED, TemplateRenderer

SETTINGS = """
from = "Acme <no-reply@acme.example>"
secret_key = "0123456789012345678901234567890123456789"
port = 1
[connector]
authorization = "Bearer 0123456789abcdef"
[providers.main]
type = "capture"
"""


@dataclass
class FakeOutbox:
    """An outbox to read; counts how often it was closed."""

    records: list[Record] = field(default_factory=list)
    waiting: dict[Priority, Depth] = field(default_factory=dict)
    held_counts: dict[str, int] = field(default_factory=dict)
    held_codes: dict[str, int] = field(default_factory=dict)
    attempts: list[AttemptSummary] = field(default_factory=list)
    code_attempts: list[AttemptSummary] = field(default_factory=list)
    paused_since: dict[str, Instant] = field(default_factory=dict)
    closed: int = 0

    async def get(self, id: str) -> Record | None:  # noqa: A002 - the field's word
        return next((record for record in self.records if record.id == id), None)

    async def find(
        self, *, recipient: str | None = None, state: State | None = None, before: str | None = None, limit: int = 50
    ) -> list[Record]:
        return [
            record
            for record in sorted(self.records, key=lambda record: record.id, reverse=True)
            if recipient in (None, record.recipient)
            if state in (None, record.state)
            if before is None or record.id < before
        ][:limit]

    async def resolve(self, prefix: str) -> str:
        ids = [record.id for record in self.records if record.id.startswith(prefix)]
        if len(ids) != 1:
            raise OutboxError(f"there is no message {prefix}")
        return ids[0]

    async def short_ids(self, ids: Sequence[str]) -> Mapping[str, str]:
        return {id_: id_[:13] for id_ in ids}

    async def depth(self) -> Mapping[Priority, Depth]:
        return {priority: self.waiting.get(priority, Depth(0, None)) for priority in Priority}

    async def held(self, *, priority: Priority | None = None) -> Mapping[str, int]:
        return self.held_counts if priority is None else self.held_codes

    async def tried(
        self, *, since: Instant, accepted: Instant, priority: Priority | None = None, limit: int = -1
    ) -> list[AttemptSummary]:
        return [row for row in (self.attempts if priority is None else self.code_attempts) if row.last_at >= since]

    async def paused(self) -> Mapping[str, Instant]:
        return self.paused_since

    async def open_breakers(self) -> Mapping[str, OpenBreaker]:
        return {}

    async def close(self) -> None:
        self.closed += 1


def record(
    id: str,  # noqa: A002 - the field's word
    state: State = State.SENT,
    recipient: str = "ada@example.com",
    diagnostic: str = "250 ok",
) -> Record:
    """Return a record with one attempt."""
    return Record(
        id=id,
        state=state,
        template="SignIn",
        priority=Priority.CODE,
        recipient=recipient,
        created_at=1_700_000_000.0,
        expires_at=1_700_000_600.0,
        settled_at=1_700_000_001.0,
        due_at=None,
        attempts=(Attempt("main", 1_700_000_000.5, 0.25, Outcome.ACCEPTED, diagnostic),),
        reason="",
        provider_message_id="",
        languages=("fr-CA",),
        payload={"code": "•••", "locale": "fr-CA"},
    )


@pytest.fixture(autouse=True)
def _working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fakes = Path(__file__).parent.parent / "fake_providers"
    monkeypatch.setattr(providers, "__path__", [*providers.__path__, str(fakes)])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.environ", {})
    Path("mailroom.toml").write_text(SETTINGS)


@pytest.fixture
def outbox() -> FakeOutbox:
    return FakeOutbox()


@dataclass
class Operator:
    """Runs commands."""

    outbox: FakeOutbox

    def run(self, *words: str) -> Result:
        """Run a command in this process, with the fake outbox."""

        async def opened(_settings: Settings) -> OperatorOutbox:
            return cast("OperatorOutbox", self.outbox)  # of what writes it has nothing

        return CliRunner().invoke(mailroom, words, obj=CliContext(None, dev=False, open=opened))


@pytest.fixture
def operator(outbox: FakeOutbox) -> Operator:
    return Operator(outbox)


@dataclass
class Server:
    """Responds as Mailroom's endpoints do, and stores the requests: path, Authorization, JSON."""

    status: int = 200
    body: bytes = b'{"id":"0192-1"}'
    requests: list[tuple[str, str | None, Any]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    """Listen on the port in the settings."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append((self.path, self.headers["authorization"], None))
            self._respond()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            state.requests.append((self.path, self.headers["authorization"], json.loads(body)))
            self._respond()

        def _respond(self) -> None:
            self.send_response(state.status)
            self.send_header("content-length", str(len(state.body)))
            self.end_headers()
            self.wfile.write(state.body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        Path("mailroom.toml").write_text(SETTINGS.replace("port = 1\n", f"port = {listening.server_port}\n"))
        thread = Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        listening.shutdown()
        thread.join()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the output of commands be a terminal of 80 columns."""
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    monkeypatch.setattr("os.environ", {"COLUMNS": "80", "TERM": "xterm"})


@pytest.fixture
def english(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Render a copy of the templates, which tests may change, in English only: 20 languages take 4 s."""
    folder = tmp_path / "mails"
    shutil.copytree(BUNDLED, folder)
    for file in (folder / "locales").glob("*.toml"):
        if file.stem != "en":
            file.unlink()
    monkeypatch.setattr(template_sources, "TemplateRenderer", partial(TemplateRenderer, templates=folder))
    return folder
