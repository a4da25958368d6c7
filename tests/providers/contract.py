"""What every provider promises. Subclass `ProviderContract` and give it a `far_end`."""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import pytest

from mailroom.clock import SystemClock
from mailroom.errors import Misconfigured, Rejected, SendingError, Unavailable, Uncertain
from mailroom.message import Email
from mailroom.providers import Provider, ProviderContext, ProviderSettings, connect
from tests.mails import email


class FarEnd(Protocol):
    """The service that the provider speaks to, as a test directs it; it accepts everything until told otherwise."""

    settings: ProviderSettings
    """How it is reached, with the default time-outs."""
    secrets: tuple[str, ...]
    """The credentials in the settings, in each form that goes over the wire."""

    @property
    def connections(self) -> int:
        """How many connections it has seen."""

    def mend(self) -> None:
        """Accept everything again."""

    def refuse(self, kind: type[SendingError]) -> None:
        """Answer what stands for this kind."""

    def hang(self, *, handed_over: bool) -> asyncio.Event:
        """Fall silent before or after a mail was handed over; the event tells that a client waits."""

    def reset(self, *, handed_over: bool) -> None:
        """Reset the connection before or after a mail was handed over."""

    def reset_idle(self) -> None:
        """Reset the connections that wait for their next mail."""

    def babble(self) -> None:
        """Answer what is not of the protocol."""

    def echo(self) -> None:
        """Refuse the credentials, and repeat them in the refusal."""

    async def subjects(self, number: int) -> list[str]:
        """Return the decoded subjects of all mails once so many have arrived."""

    async def left_alone(self) -> None:
        """Return once no connection is open."""

    async def vanish(self) -> None:
        """Stop listening."""


class NoCatcher:
    """Catches nothing: only `capture` may ask for it."""

    async def keep(self, _email: Email) -> None:
        """Fail the test."""
        raise AssertionError("this provider does not catch mails")


def context(**changes: object) -> ProviderContext:
    """Return what a provider may use; a real clock unless told otherwise."""
    given = {"name": "main", "clock": SystemClock(), "catcher": NoCatcher()} | changes
    return ProviderContext(**given)  # type: ignore[arg-type]  # the caller's types are the dataclass's


class ProviderContract:
    """The promises. `pass_time` moves the event loop's time, so that no test waits for a time-out."""

    @pytest.fixture
    @abstractmethod
    def far_end(self) -> FarEnd:
        """Return the service to speak to."""

    @pytest.fixture
    async def provider(self, far_end: FarEnd) -> AsyncIterator[Provider]:
        """Connect as `[providers.main]` does."""
        provider = connect(far_end.settings, context())
        yield provider
        await provider.aclose()

    async def test_an_accepted_mail_arrives(self, provider: Provider, far_end: FarEnd) -> None:
        receipt = await provider.send(email(subject="Good day"))
        assert receipt.words
        assert await far_end.subjects(1) == ["Good day"]

    async def test_a_mail_in_another_script_arrives_as_it_was_written(
        self, provider: Provider, far_end: FarEnd
    ) -> None:
        await provider.send(email(subject="Ваш код 🎉 验证码", text="Привет", html="<p>Привет</p>"))
        assert await far_end.subjects(1) == ["Ваш код 🎉 验证码"]

    @pytest.mark.parametrize("kind", [Rejected, Misconfigured, Unavailable])
    async def test_a_refusal_is_of_its_kind_in_the_providers_words(
        self, provider: Provider, far_end: FarEnd, kind: type[SendingError]
    ) -> None:
        far_end.refuse(kind)
        with pytest.raises(kind) as refused:
            await provider.send(email())
        assert 0 < len(refused.value.words) <= 500
        assert refused.value.words.isprintable()
        assert refused.value.code

    async def test_after_a_refusal_the_next_mail_arrives(self, provider: Provider, far_end: FarEnd) -> None:
        for kind in (Rejected, Misconfigured, Unavailable):
            far_end.refuse(kind)
            with pytest.raises(kind):
                await provider.send(email(subject="refused"))
        far_end.mend()
        await provider.send(email(subject="next"))
        assert (await far_end.subjects(1))[-1] == "next"

    @pytest.mark.parametrize(("handed_over", "kind"), [(False, Unavailable), (True, Uncertain)])
    async def test_silence_is_uncertain_only_after_the_mail_was_handed_over(
        self,
        provider: Provider,
        far_end: FarEnd,
        pass_time: Callable[[float], None],
        handed_over: bool,  # noqa: FBT001  # a parameter of the test
        kind: type[SendingError],
    ) -> None:
        waiting = far_end.hang(handed_over=handed_over)
        sending = asyncio.create_task(provider.send(email()))
        await waiting.wait()
        pass_time(far_end.settings.timeout)
        with pytest.raises(kind):
            await sending
        far_end.mend()
        await provider.send(email(subject="next"))
        assert (await far_end.subjects(1))[-1] == "next"

    @pytest.mark.parametrize(("handed_over", "kind"), [(False, Unavailable), (True, Uncertain)])
    async def test_a_reset_is_uncertain_only_after_the_mail_was_handed_over(
        self,
        provider: Provider,
        far_end: FarEnd,
        handed_over: bool,  # noqa: FBT001  # a parameter of the test
        kind: type[SendingError],
    ) -> None:
        far_end.reset(handed_over=handed_over)
        with pytest.raises(kind):
            await provider.send(email())
        far_end.mend()
        await provider.send(email(subject="next"))
        assert (await far_end.subjects(1))[-1] == "next"

    async def test_an_unreachable_service_is_unavailable(self, provider: Provider, far_end: FarEnd) -> None:
        await far_end.vanish()
        with pytest.raises(Unavailable):
            await provider.send(email())

    async def test_nonsense_is_one_of_the_four_kinds(self, provider: Provider, far_end: FarEnd) -> None:
        far_end.babble()
        with pytest.raises(SendingError) as refused:
            await provider.send(email())
        assert type(refused.value) in (Rejected, Misconfigured, Unavailable, Uncertain)

    async def test_connections_are_used_again(self, provider: Provider, far_end: FarEnd) -> None:
        for _ in range(5):
            await provider.send(email())
        assert far_end.connections == 1
        await far_end.subjects(5)

    async def test_a_connection_that_died_while_it_was_idle_is_no_failure(
        self, provider: Provider, far_end: FarEnd
    ) -> None:
        await provider.send(email())
        far_end.reset_idle()
        await provider.send(email())
        await far_end.subjects(2)

    async def test_at_most_concurrency_connections_are_open(self, provider: Provider, far_end: FarEnd) -> None:
        number = 3 * far_end.settings.concurrency
        async with asyncio.TaskGroup() as group:
            for _ in range(number):
                group.create_task(provider.send(email()))
        assert far_end.connections <= far_end.settings.concurrency
        assert len(await far_end.subjects(number)) == number

    async def test_a_cancelled_send_spoils_nothing(self, provider: Provider, far_end: FarEnd) -> None:
        waiting = far_end.hang(handed_over=True)
        sending = asyncio.create_task(provider.send(email()))
        await waiting.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await far_end.left_alone()
        far_end.mend()
        await provider.send(email(subject="next"))
        assert (await far_end.subjects(1))[-1] == "next"

    async def test_aclose_leaves_nothing_open(self, far_end: FarEnd) -> None:
        provider = connect(far_end.settings, context())
        async with asyncio.TaskGroup() as group:
            for _ in range(far_end.settings.concurrency):
                group.create_task(provider.send(email()))
        await provider.aclose()
        await far_end.left_alone()
        with pytest.raises(Unavailable):
            await provider.send(email())

    async def test_aclose_cuts_off_what_is_on_its_way(self, far_end: FarEnd) -> None:
        provider = connect(far_end.settings, context())
        waiting = far_end.hang(handed_over=True)
        sending = asyncio.create_task(provider.send(email()))
        await waiting.wait()
        await provider.aclose()
        with pytest.raises(Uncertain):
            await sending
        await far_end.left_alone()

    async def test_no_secret_is_shown(self, provider: Provider, far_end: FarEnd) -> None:
        """Neither by the settings nor by an error, even if the service repeats what it was told."""
        far_end.echo()
        with pytest.raises(SendingError) as refused:
            await provider.send(email())
        shown = f"{far_end.settings!r} {far_end.settings} {refused.value!r} {refused.value} {refused.value.code}"
        assert far_end.secrets
        for secret in far_end.secrets:
            assert secret not in shown
