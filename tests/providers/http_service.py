"""A vendor's API on loopback: the same recorder for all, with the vendor's own recorded responses."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from mailroom.errors import Misconfigured, Rejected, SendingError, Unavailable
from mailroom.providers.http.http_settings import HttpSettings
from tests.http_recorder import Answer, Recorder, Request, ca_file


@dataclass(frozen=True)
class Vendor:
    """A vendor's test data."""

    settings: type[HttpSettings]
    options: Mapping[str, Any]
    """The settings that it needs, credentials included."""
    secrets: tuple[str, ...]
    """The credentials in each form that goes over the wire."""
    accepted: Answer
    refusals: Mapping[type[SendingError], Answer]
    """A recorded answer for Rejected, Misconfigured and Unavailable; the last one is a 429 without Retry-After."""
    subject: Callable[[Request], str]
    """Returns the subject of a request."""
    server_error: type[SendingError]
    """What the vendor's own 500 is: Uncertain, or Unavailable where an idempotency key is honoured."""
    template: str = "sign-in"
    """A valid name of a template at the vendor."""
    server_fault: Answer = field(default_factory=lambda: Answer(500, b'{"message": "Internal Server Error"}'))


class HttpService:
    """`FakeService` over HTTPS, see `ProviderContract`."""

    def __init__(self, vendor: Vendor, recorder: Recorder) -> None:
        self.vendor = vendor
        self.recorder = recorder
        self.settings = vendor.settings.model_validate(
            {**vendor.options, "endpoint": recorder.url, "ca_file": ca_file()}
        )
        self.secrets = vendor.secrets
        self._refused = 0

    @property
    def connections(self) -> int:
        return self.recorder.connections

    def accept(self) -> None:
        recorder = self.recorder
        recorder.answer = self.vendor.accepted
        recorder.mute = recorder.deaf = recorder.reset_before = recorder.reset_after = False

    def answer(self, answer: Answer) -> None:
        """Send this response to every request until `accept`."""
        self.recorder.answer = answer

    def refuse(self, kind: type[SendingError]) -> None:
        self.answer(self.vendor.refusals[kind])

    def hang(self, *, handed_over: bool) -> asyncio.Event:
        self.recorder.waiting.clear()
        if handed_over:
            self.recorder.deaf = True
        else:
            self.recorder.mute = True
        return self.recorder.waiting

    def reset(self, *, handed_over: bool) -> None:
        if handed_over:
            self.recorder.reset_after = True
        else:
            self.recorder.reset_before = True

    def reset_idle(self) -> None:
        self.recorder.reset_idle()

    def send_garbage(self) -> None:
        self.answer(Answer(raw=b"220 mail.acme.example ESMTP ready\r\n"))

    def echo(self) -> None:
        refused = self.vendor.refusals[Misconfigured]
        echoed = " ".join(self.vendor.secrets)
        body = refused.body.replace(b'": "', f'": "{echoed} '.encode())
        assert echoed.encode() in body, "the recorded refusal holds no text to put the secrets in"
        self.answer(Answer(refused.status, body, refused.headers))

    async def subjects(self, number: int) -> list[str]:
        await self.recorder.until(lambda: len(self.recorder.requests) >= number)
        return [self.vendor.subject(request) for request in self.recorder.requests]

    async def left_alone(self) -> None:
        await self.recorder.until(lambda: not self.recorder.open)

    async def vanish(self) -> None:
        await self.recorder.vanish()


@asynccontextmanager
async def service_of(vendor: Vendor) -> AsyncIterator[HttpService]:
    """Open the vendor's API on loopback."""
    assert {Rejected, Misconfigured, Unavailable} <= set(vendor.refusals)
    async with Recorder(vendor.accepted) as recorder:
        yield HttpService(vendor, recorder)
