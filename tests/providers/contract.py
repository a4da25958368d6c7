"""The contract of every provider. Subclass `ProviderContract` and give it a `service`."""

import asyncio
import gc
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Protocol

import pytest
from msgspec.structs import replace

from mailroom.clock import SystemClock
from mailroom.errors import Misconfigured, Rejected, SendingError, Unavailable, Uncertain
from mailroom.message import Email
from mailroom.providers import Provider, ProviderContext, ProviderSettings, connect
from tests.clock import settle
from tests.mails import email


class FakeService(Protocol):
    """A fake of the service that the provider uses, controlled by a test; it accepts everything by default."""

    settings: ProviderSettings
    """Its address and credentials, with the default time-outs."""
    secrets: tuple[str, ...]
    """The credentials in the settings, in each form that goes over the wire."""

    @property
    def connections(self) -> int:
        """How many connections were opened."""

    def accept(self) -> None:
        """Accept everything again."""

    def refuse(self, kind: type[SendingError]) -> None:
        """Send a response of this kind."""

    def hang(self, *, handed_over: bool) -> asyncio.Event:
        """Stop responding before or after a mail was handed over; the event is set when a client waits."""

    def reset(self, *, handed_over: bool) -> None:
        """Reset the connection before or after a mail was handed over."""

    def reset_idle(self) -> None:
        """Reset the connections that wait for their next mail."""

    def send_garbage(self) -> None:
        """Send a response that is not of the protocol."""

    def echo(self) -> None:
        """Refuse the credentials, and repeat them in the refusal."""

    async def subjects(self, number: int) -> list[str]:
        """Return the decoded subjects of all mails once so many have arrived."""

    async def left_alone(self) -> None:
        """Return once no connection is open."""

    async def vanish(self) -> None:
        """Stop listening."""


class NoCatcher:
    """Stores nothing: only `capture` uses it."""

    async def keep(self, _email: Email) -> None:
        """Fail the test."""
        raise AssertionError("this provider does not catch mails")


class SecretsInMemory:
    """An `EntityStore`."""

    def __init__(self) -> None:
        self.stored: dict[str, str] = {}

    async def get(self, name: str) -> str | None:
        """Return a secret."""
        return self.stored.get(name)

    async def put(self, name: str, secret: str) -> None:
        """Store a secret."""
        self.stored[name] = secret

    async def get_entities(self, kind: str, ids: Sequence[str]) -> list[str | None]:
        """Return what is stored of each."""
        return [self.stored.get(f"{kind} {id_}") for id_ in ids]

    async def put_entity(self, kind: str, id: str, text: str) -> None:  # noqa: A002 - the usual word
        """Store a text."""
        self.stored[f"{kind} {id}"] = text


def context(**changes: object) -> ProviderContext:
    """Return a context, by default with the real clock."""
    given = {"name": "main", "clock": SystemClock(), "catcher": NoCatcher(), "secrets": SecretsInMemory()} | changes
    return ProviderContext(**given)  # type: ignore[arg-type]  # the caller's types are the dataclass's


class ProviderContract:
    """The promises. `pass_time` moves the event loop's time, so that no test waits for a time-out."""

    @pytest.fixture
    @abstractmethod
    def service(self) -> FakeService:
        """Return the fake service."""

    @pytest.fixture
    async def provider(self, service: FakeService) -> AsyncIterator[Provider]:
        """Connect as `[providers.main]` does."""
        provider = connect(service.settings, context())
        yield provider
        await provider.aclose()

    async def test_an_accepted_mail_arrives(self, provider: Provider, service: FakeService) -> None:
        receipt = await provider.send(email(subject="Good day"))
        assert receipt.diagnostic
        assert await service.subjects(1) == ["Good day"]

    async def test_a_mail_in_another_script_arrives_unchanged(self, provider: Provider, service: FakeService) -> None:
        await provider.send(email(subject="Ваш код 🎉 验证码", text="Привет", html="<p>Привет</p>"))
        assert await service.subjects(1) == ["Ваш код 🎉 验证码"]

    @pytest.mark.parametrize("kind", [Rejected, Misconfigured, Unavailable])
    async def test_a_refusal_has_its_kind_and_the_providers_diagnostic(
        self, provider: Provider, service: FakeService, kind: type[SendingError]
    ) -> None:
        service.refuse(kind)
        with pytest.raises(kind) as refused:
            await provider.send(email())
        assert 0 < len(refused.value.diagnostic) <= 500
        assert refused.value.diagnostic.isprintable()
        assert refused.value.code

    async def test_a_refused_mail_does_not_stay_in_memory(self, provider: Provider, service: FakeService) -> None:
        """Until `gc` runs, which is rare: an error must not be referenced by a frame of its own traceback."""
        await self._is_forgotten(provider)  # what is imported or cached by the first one is of no interest
        for kind in (Rejected, Misconfigured, Unavailable):
            service.refuse(kind)
            assert await self._is_forgotten(provider), kind
        await service.vanish()
        assert await self._is_forgotten(provider)

    async def _is_forgotten(self, provider: Provider) -> bool:
        gc.collect()
        gc.disable()
        try:
            with suppress(SendingError):
                await provider.send(email(subject="to be forgotten"))
            await settle()
            return not any(isinstance(one, Email) and one.subject == "to be forgotten" for one in gc.get_objects())
        finally:
            gc.enable()

    async def test_after_a_refusal_the_next_mail_arrives(self, provider: Provider, service: FakeService) -> None:
        for kind in (Rejected, Misconfigured, Unavailable):
            service.refuse(kind)
            with pytest.raises(kind):
                await provider.send(email(subject="refused"))
        service.accept()
        await provider.send(email(subject="next"))
        assert (await service.subjects(1))[-1] == "next"

    @pytest.mark.parametrize(("handed_over", "kind"), [(False, Unavailable), (True, Uncertain)])
    async def test_a_time_out_is_uncertain_only_after_the_mail_was_handed_over(
        self,
        provider: Provider,
        service: FakeService,
        pass_time: Callable[[float], None],
        handed_over: bool,  # noqa: FBT001  # a parameter of the test
        kind: type[SendingError],
    ) -> None:
        waiting = service.hang(handed_over=handed_over)
        sending = asyncio.create_task(provider.send(email()))
        await waiting.wait()
        pass_time(service.settings.timeout)
        with pytest.raises(kind):
            await sending
        service.accept()
        await provider.send(email(subject="next"))
        assert (await service.subjects(1))[-1] == "next"

    @pytest.mark.parametrize("handed_over", [False, True])
    async def test_a_code_leaves_room_for_the_next_provider(
        self,
        provider: Provider,
        service: FakeService,
        pass_time: Callable[[float], None],
        handed_over: bool,  # noqa: FBT001  # a parameter of the test
    ) -> None:
        """It is given up after 5 s of silence, but has 15 s once it was handed over."""
        seconds, kind = (15, Uncertain) if handed_over else (5, Unavailable)
        waiting = service.hang(handed_over=handed_over)
        sending = asyncio.create_task(provider.send(replace(email(), is_code=True)))
        await waiting.wait()
        pass_time(seconds - 1)
        await settle()
        assert not sending.done()
        pass_time(1)
        with pytest.raises(kind, match=f"within {seconds} s"):
            await sending

    @pytest.mark.parametrize(("handed_over", "kind"), [(False, Unavailable), (True, Uncertain)])
    async def test_a_reset_is_uncertain_only_after_the_mail_was_handed_over(
        self,
        provider: Provider,
        service: FakeService,
        handed_over: bool,  # noqa: FBT001  # a parameter of the test
        kind: type[SendingError],
    ) -> None:
        service.reset(handed_over=handed_over)
        with pytest.raises(kind):
            await provider.send(email())
        service.accept()
        await provider.send(email(subject="next"))
        assert (await service.subjects(1))[-1] == "next"

    async def test_an_unreachable_service_is_unavailable(self, provider: Provider, service: FakeService) -> None:
        await service.vanish()
        with pytest.raises(Unavailable):
            await provider.send(email())

    async def test_a_malformed_response_is_one_of_the_four_kinds(
        self, provider: Provider, service: FakeService
    ) -> None:
        service.send_garbage()
        with pytest.raises(SendingError) as refused:
            await provider.send(email())
        assert type(refused.value) in (Rejected, Misconfigured, Unavailable, Uncertain)

    async def test_connections_are_reused(self, provider: Provider, service: FakeService) -> None:
        for _ in range(5):
            await provider.send(email())
        assert service.connections == 1
        await service.subjects(5)

    async def test_a_connection_closed_while_idle_is_replaced(self, provider: Provider, service: FakeService) -> None:
        await provider.send(email())
        service.reset_idle()
        await provider.send(email())
        await service.subjects(2)

    async def test_at_most_concurrency_connections_are_open(self, provider: Provider, service: FakeService) -> None:
        number = 3 * service.settings.concurrency
        async with asyncio.TaskGroup() as group:
            for _ in range(number):
                group.create_task(provider.send(email()))
        assert service.connections <= service.settings.concurrency
        assert len(await service.subjects(number)) == number

    async def test_after_a_cancelled_send_the_next_mail_arrives(self, provider: Provider, service: FakeService) -> None:
        waiting = service.hang(handed_over=True)
        sending = asyncio.create_task(provider.send(email()))
        await waiting.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await service.left_alone()
        service.accept()
        await provider.send(email(subject="next"))
        assert (await service.subjects(1))[-1] == "next"

    async def test_aclose_closes_all_connections(self, service: FakeService) -> None:
        provider = connect(service.settings, context())
        async with asyncio.TaskGroup() as group:
            for _ in range(service.settings.concurrency):
                group.create_task(provider.send(email()))
        await provider.aclose()
        await service.left_alone()
        with pytest.raises(Unavailable):
            await provider.send(email())

    async def test_aclose_aborts_sends_under_way(self, service: FakeService) -> None:
        provider = connect(service.settings, context())
        waiting = service.hang(handed_over=True)
        sending = asyncio.create_task(provider.send(email()))
        await waiting.wait()
        await provider.aclose()
        with pytest.raises(Uncertain):
            await sending
        await service.left_alone()

    async def test_no_secret_is_shown(self, provider: Provider, service: FakeService) -> None:
        """Neither by the settings nor by an error, even if the service repeats it."""
        service.echo()
        with pytest.raises(SendingError) as refused:
            await provider.send(email())
        shown = f"{service.settings!r} {service.settings} {refused.value!r} {refused.value} {refused.value.code}"
        assert service.secrets
        for secret in service.secrets:
            assert secret not in shown
