"""Rows e and g: render + MIME of one mail against the standard library, and what twenty languages cost.

Row e compares with `EmailMessage` building the same message, row g with English alone. CPU time of this thread,
medians of interleaved rounds, so that a busy machine slows both sides alike.
"""

import gc
import shutil
import statistics
import time
import tracemalloc
from collections.abc import Callable, Mapping
from datetime import timedelta
from email import message_from_bytes, policy
from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from unittest import mock

from msgspec.structs import replace

from bench.figures import Figure
from mailroom.lint.samples import Sample, message
from mailroom.message import Address, Email, Message, Priority
from mailroom.rendering import Brand, mime
from mailroom.rendering.background import submit
from mailroom.rendering.engines.jinja_engine import Engine
from mailroom.rendering.renderer import BUNDLED, TemplateRenderer

_ROUNDS: Final = 15
_REPEATS: Final = 100
_OVERLAY: Final = "render + MIME, an overlay's style sheet inlined"
_BUDGETS: Final = {"MIME": 120, "render + MIME": 120, _OVERLAY: 250}
"""µs of CPU, where `EmailMessage` takes 1,200: the same share of it is the aim here."""
_EMAIL_MESSAGE_MICROSECONDS: Final = 1200
_STYLE: Final = "<style>h1{margin:0}p{padding:0}.card{border:0}a:hover{color:red}"
_SENDER: Final = Address("no-reply@acme.example", "Acme")
_MESSAGE: Final = Message(
    id="01935a5e-8f3c-7d2a-9c41-5b0e6f7a8d90",
    template="SignIn",
    priority=Priority.CODE,
    recipient="ada@example.com",
    payload={
        "code": "314159",
        "locale": "en",
        "application": {"id": "x42ogopvrdataet06r5rt", "name": "Riverside Web"},
        "organization": {
            "id": "mmp97otrr6k1",
            "name": "Lighthouse GmbH",
            "branding": {"logoUrl": "https://cdn.example.com/logo.png"},
        },
    },
    created_at=1_790_000_000.0,
    expires_at=1_790_000_600.0,
    languages=("en",),
)


def measure_rendering(_rounds: int) -> list[Figure]:
    """Return row e."""
    with TemporaryDirectory() as folder:
        layout = (BUNDLED / "layout.html.jinja").read_text(encoding="utf-8")
        Path(folder, "layout.html.jinja").write_text(layout.replace("<style>", _STYLE), encoding="utf-8")
        renderer, styled = _renderer(), _renderer(overlay=Path(folder))
    email = _write(renderer)
    assert _content(email.raw) == _content(_by_email_message(email)), "the two must be the same mail"
    unmerged = _without_compiler()
    micros = _cpu_microseconds(
        {
            "EmailMessage": lambda: _by_email_message(email),
            "MIME": lambda: _by_mailroom(email),
            "render + MIME": lambda: _write(renderer),
            _OVERLAY: lambda: _write(styled),
            "unmerged": lambda: _write(unmerged),
        }
    )
    library, without = micros.pop("EmailMessage"), micros.pop("unmerged")
    figures = [
        Figure(
            "e", "render + MIME without the template compiler (against with it)", "µs", without, micros["render + MIME"]
        )
    ]
    for name, taken in micros.items():
        what = f"{name}: CPU of one mail, times as fast as EmailMessage (budget {_BUDGETS[name]} µs)"
        aim = _EMAIL_MESSAGE_MICROSECONDS / _BUDGETS[name]
        figures.append(Figure("e", what, "µs", taken, library, library / taken, at_least=aim))
    return figures


def _without_compiler() -> TemplateRenderer:
    """Return a renderer whose templates are not merged, which is otherwise done in the background after some mails."""
    renderer = _renderer()
    with mock.patch.object(Engine, "merge_template", return_value=None):
        for _ in range(_REPEATS):
            _write(renderer)
        submit(str).result()  # what was submitted before has run
    return renderer


def measure_languages(_rounds: int) -> list[Figure]:
    """Return row g. The time of a start is printed for comparison."""
    with TemporaryDirectory() as folder:
        english = Path(folder) / "mails"
        shutil.copytree(BUNDLED, english, ignore=_all_but_english)
        start = _cpu_microseconds({"start": _renderer}, repeats=1)["start"] / 1000
        memory = _mebibytes(BUNDLED) - _mebibytes(english)
        few, many = _renderer(templates=english), _renderer()
        micros = _cpu_microseconds(
            {
                "alone": lambda: _write(few),
                "en": lambda: _write(many),
                **{tag: partial(_write, many, tag) for tag in ("de", "ru", "ar", "zh-TW")},
            }
        )
    alone, mail = micros.pop("alone"), micros.pop("en")
    return [
        Figure("g", "nineteen more languages, all kinds written", "MiB", memory, at_most=20),
        # Less than 1.1 cannot be distinguished from a busy machine.
        Figure("g", "a mail in English, with nineteen more languages (against alone)", "µs", mail, alone, at_most=1.1),
        *[Figure("g", f"the same in {tag}", "µs", taken, alone) for tag, taken in micros.items()],
        Figure("g", "reading all languages at a start", "ms", start),
    ]


def _all_but_english(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if Path(folder).name == "locales" and name != "en.toml"]


def _renderer(**options: Any) -> TemplateRenderer:
    return TemplateRenderer(
        brand=Brand(name="Acme", company="Acme Inc., 1 Main St", support_email="help@acme.example"),
        code_lifetime=timedelta(minutes=10),
        message_id_domain="acme.example",
        **options,
    )


def _write(renderer: TemplateRenderer, language: str = "en") -> Email:
    return renderer.render(replace(_MESSAGE, languages=(language,)), sender=_SENDER, reply_to=None)


def _mebibytes(templates: Path) -> float:
    """Return the memory of a renderer that has written each kind in each language, and so compiled its page."""
    gc.collect()
    tracemalloc.start()
    renderer = _renderer(templates=templates)
    for kind, languages in renderer.inventory({}).kinds.items():
        for language in languages:
            renderer.render(message(kind, Sample.FULL, language), sender=_SENDER, reply_to=None)
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size / 2**20


def _cpu_microseconds(jobs: Mapping[str, Callable[[], object]], repeats: int = _REPEATS) -> dict[str, float]:
    """Return the CPU time of each job."""
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(_ROUNDS):
        for name, job in jobs.items():
            began = time.thread_time_ns()
            for _ in range(repeats):
                job()
            taken[name].append((time.thread_time_ns() - began) / repeats / 1000)
    return {name: statistics.median(rounds) for name, rounds in taken.items()}


def _by_mailroom(email: Email) -> bytes:
    return mime.serialize(email, _MESSAGE.created_at)


def _by_email_message(email: Email) -> bytes:
    message = EmailMessage(policy=policy.SMTP.clone(cte_type="7bit"))
    message["From"] = HeaderAddress(email.sender.name, addr_spec=email.sender.email)
    message["To"] = HeaderAddress(addr_spec=email.recipient)
    if email.reply_to:
        message["Reply-To"] = HeaderAddress(addr_spec=email.reply_to.email)
    message["Subject"] = email.subject
    message["Date"] = "Mon, 21 Sep 2026 14:13:20 +0000"
    message["Message-ID"] = email.message_id
    message.set_content(email.text)
    message.add_alternative(email.html, subtype="html")
    for name, value in email.headers:  # last, for setting the content removes Content-Language
        message[name] = value
    return message.as_bytes()


def _content(raw: bytes) -> tuple[dict[str, str], list[str]]:
    """Return what a mail client sees: the headers without the boundary's, and the bodies."""
    message = message_from_bytes(raw, policy=policy.default)
    assert isinstance(message, EmailMessage)
    headers = {name: str(value) for name, value in message.items() if name != "Content-Type"}
    return headers, [part.get_content() for part in message.iter_parts()]
