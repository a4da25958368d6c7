"""When a request counts as handed over, and when a connection is used again."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from mailroom.errors import Declined, Misconfigured, Unavailable, Uncertain
from mailroom.providers import connect
from mailroom.providers.resend import Settings
from tests.clock import FakeClock
from tests.http_recorder import Answer, Recorder, ca_file, json_answer, tls_context
from tests.mails import email
from tests.providers.contract import context
from tests.providers.http_far_end import HttpFarEnd, far_end_of
from tests.providers.test_resend import KEY, VENDOR

HUGE = email(html="<p>" + "x" * 16_000_000 + "</p>")
"""More than the system's buffers hold."""


@pytest.fixture
async def far_end() -> AsyncIterator[HttpFarEnd]:
    async with far_end_of(VENDOR) as far_end:
        yield far_end


@pytest.mark.parametrize("tls", [False, True], ids=["in clear", "encrypted"])
async def test_a_request_that_is_not_written_to_its_end_was_not_handed_over(
    pass_time: Callable[[float], None],
    tls: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    """The vendor stops reading in the middle of it."""
    async with Recorder(VENDOR.accepted, tls=tls) as recorder:
        recorder.lazy = True
        provider = connect(_settings(recorder), context())
        sending = asyncio.create_task(provider.send(HUGE))
        await recorder.waiting.wait()
        pass_time(30)
        with pytest.raises(Unavailable):
            await sending
        await provider.aclose()


@pytest.mark.parametrize("tls", [False, True], ids=["in clear", "encrypted"])
async def test_a_reset_in_the_middle_of_a_request_is_unavailable(
    tls: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    async with Recorder(VENDOR.accepted, tls=tls) as recorder:
        recorder.lazy = True
        provider = connect(_settings(recorder), context())
        sending = asyncio.create_task(provider.send(HUGE))
        await recorder.waiting.wait()
        recorder.reset_idle()
        with pytest.raises(Unavailable):
            await sending
        await provider.aclose()


@pytest.mark.parametrize("tls", [False, True], ids=["in clear", "encrypted"])
async def test_a_close_after_the_body_is_uncertain(tls: bool) -> None:  # noqa: FBT001  # a parameter of the test
    async with Recorder(VENDOR.accepted, tls=tls) as recorder:
        recorder.reset_after = True
        provider = connect(_settings(recorder), context())
        with pytest.raises(Uncertain):
            await provider.send(email())
        await provider.aclose()
        assert len(recorder.requests) == 1


@pytest.mark.parametrize("tls", [False, True], ids=["in clear", "encrypted"])
@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_a_connection_that_the_vendor_ended_while_it_was_idle_is_no_failure(
    how: str,
    tls: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    """The loop has not seen the end yet when the next mail is sent."""
    async with Recorder(VENDOR.accepted, tls=tls) as recorder:
        provider = connect(_settings(recorder), context())
        await provider.send(email())
        if how == "reset":
            recorder.reset_idle()
        else:
            recorder.end_all()
        await provider.send(email())
        await provider.aclose()
        assert (len(recorder.requests), recorder.connections) == (2, 2)


@pytest.mark.parametrize("tls", [False, True], ids=["in clear", "encrypted"])
async def test_a_request_that_was_given_up_never_arrives_later(
    pass_time: Callable[[float], None],
    tls: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    """A mail that was counted as unsent would be sent twice."""
    began, reads, read = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop().create_future()

    async def vendor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = len(await reader.read(1))
        began.set()
        await reads.wait()
        try:
            while data := await reader.read(65536):
                size += len(data)
        except ConnectionError:
            pass
        read.set_result(size)
        writer.close()

    server = await asyncio.start_server(vendor, "127.0.0.1", 0, ssl=tls_context() if tls else None)
    async with server:
        url = f"http{'s' if tls else ''}://localhost:{server.sockets[0].getsockname()[1]}"
        provider = connect(Settings.model_validate({"api_key": KEY, "endpoint": url, "ca_file": ca_file()}), context())
        sending = asyncio.create_task(provider.send(HUGE))
        await began.wait()
        pass_time(30)
        with pytest.raises(Unavailable):
            await sending
        reads.set()
        assert await read < len(HUGE.html)
        await provider.aclose()


STORMS = {
    "1xx": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2000),
    "chunk extensions": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 60_000),
}


@pytest.mark.parametrize("storm", STORMS)
async def test_an_endless_answer_ends_with_the_time_out_and_holds_up_no_other_mail(
    far_end: HttpFarEnd, pass_time: Callable[[float], None], storm: str
) -> None:
    begin, again = STORMS[storm]

    async def vendor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(begin)
        try:
            while True:
                writer.write(again)
                await writer.drain()
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(vendor, "127.0.0.1", 0)
    async with server:
        endpoint = f"http://localhost:{server.sockets[0].getsockname()[1]}"
        stormy = connect(Settings.model_validate({"api_key": KEY, "endpoint": endpoint}), context())
        calm = connect(far_end.settings, context())
        sending = asyncio.create_task(stormy.send(email()))
        for _ in range(5):
            await calm.send(email())
        if not sending.done():  # too long an extension may be refused at once
            pass_time(30)
        with pytest.raises(Uncertain):
            await sending
        await stormy.aclose()
        await calm.aclose()


async def test_a_huge_mail_arrives_as_a_whole(far_end: HttpFarEnd) -> None:
    provider = connect(far_end.settings, context())
    await provider.send(HUGE)
    await provider.send(email())
    await provider.aclose()
    assert far_end.recorder.requests[0].json["html"] == HUGE.html
    assert far_end.connections == 1


async def test_an_answer_ahead_of_time_is_heard() -> None:
    """It refuses the mail without having read it; the connection is of no more use."""
    refusal = json_answer(413, {"name": "validation_error", "message": "too large"})
    async with Recorder(VENDOR.accepted) as recorder:
        recorder.hasty = refusal
        provider = connect(_settings(recorder), context())
        with pytest.raises(Declined, match="too large"):
            await provider.send(HUGE)
        recorder.hasty = None
        await provider.send(email())
        await provider.aclose()
        assert recorder.connections == 2


@pytest.mark.parametrize("location", ["http://elsewhere:port", "http://[::1", "/" * 9000])
async def test_a_redirect_to_a_broken_url_is_a_redirect(far_end: HttpFarEnd, location: str) -> None:
    """Httpx would parse it, though nothing follows it, and raise an error of its own."""
    far_end.answer(Answer(302, b"", {"Location": location}))
    provider = connect(far_end.settings, context())
    with pytest.raises(Misconfigured, match="endpoint"):
        await provider.send(email())
    await provider.aclose()


async def test_a_connection_that_was_idle_for_long_is_not_used(far_end: HttpFarEnd) -> None:
    clock = FakeClock()
    provider = connect(far_end.settings, context(clock=clock))
    await provider.send(email())
    await clock.advance(29)
    await provider.send(email())
    assert far_end.connections == 1
    await clock.advance(30)
    await provider.send(email())
    assert far_end.connections == 2
    await provider.aclose()


@pytest.mark.parametrize(
    ("announced", "seconds"),
    [("timeout=5", 4), ("max=100, Timeout=5", 4), ("timeout=1", 0), ("timeout=900", 30), ("timeout=x", 30), ("", 30)],
)
async def test_a_vendors_shorter_patience_is_respected(far_end: HttpFarEnd, announced: str, seconds: float) -> None:
    """Node's servers hang up after 5 s: a request that is on its way then would be Uncertain."""
    far_end.answer(Answer(200, VENDOR.accepted.body, {"Keep-Alive": announced}))
    clock = FakeClock()
    provider = connect(far_end.settings, context(clock=clock))
    await provider.send(email())
    await clock.advance(max(0, seconds - 0.1))
    await provider.send(email())
    assert far_end.connections == (1 if seconds else 2)
    await clock.advance(seconds)
    await provider.send(email())
    assert far_end.connections == (2 if seconds else 3)
    await provider.aclose()


async def test_a_vendor_that_closes_after_each_answer_is_dialled_anew(far_end: HttpFarEnd) -> None:
    far_end.answer(Answer(200, VENDOR.accepted.body, {"Connection": "close"}))
    provider = connect(far_end.settings, context())
    for _ in range(3):
        await provider.send(email())
    assert far_end.connections == 3
    await provider.aclose()


async def test_what_nobody_asked_for_spoils_a_connection(far_end: HttpFarEnd) -> None:
    """A second answer in the same breath would be taken for the next mail's."""
    body = VENDOR.accepted.body
    once = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    far_end.recorder.answers = [Answer(raw=once + once)]
    provider = connect(far_end.settings, context())
    await provider.send(email())
    await provider.send(email())
    assert far_end.connections == 2
    await provider.aclose()


async def test_an_answer_may_end_with_its_connection(far_end: HttpFarEnd) -> None:
    far_end.answer(Answer(raw=b"HTTP/1.0 200 OK\r\n\r\n" + VENDOR.accepted.body))
    provider = connect(far_end.settings, context())
    assert (await provider.send(email())).provider_message_id
    await provider.aclose()


async def test_a_packed_answer_is_not_unpacked(far_end: HttpFarEnd) -> None:
    """We asked for none: 64 KiB of gzip can be 64 MiB."""
    far_end.answer(Answer(200, b"\x1f\x8b\x08\x00 not really", {"Content-Encoding": "gzip"}))
    provider = connect(far_end.settings, context())
    with pytest.raises(Uncertain):
        await provider.send(email())
    await provider.aclose()


async def test_waiting_for_a_free_connection_counts_as_not_handed_over(
    far_end: HttpFarEnd, pass_time: Callable[[float], None]
) -> None:
    provider = connect(far_end.settings.model_copy(update={"concurrency": 1}), context())
    waiting = far_end.hang(handed_over=True)
    first = asyncio.create_task(provider.send(email()))
    await waiting.wait()
    second = asyncio.create_task(provider.send(email()))
    await asyncio.sleep(0)
    pass_time(30)
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(result) for result in results] == [Uncertain, Unavailable]
    await provider.aclose()


async def test_a_slow_encryption_ends_with_the_connect_timeout(
    far_end: HttpFarEnd, pass_time: Callable[[float], None]
) -> None:
    """So that a code has time left for the next provider."""
    waiting = far_end.hang(handed_over=False)
    provider = connect(far_end.settings, context())
    sending = asyncio.create_task(provider.send(email()))
    await waiting.wait()
    pass_time(far_end.settings.connect_timeout)
    with pytest.raises(Unavailable, match="within 10 s"):
        await sending
    await provider.aclose()
    await far_end.left_alone()


@pytest.mark.parametrize("endpoint", ["https://no-such-host.invalid", "https://127.0.0.1:1"])
async def test_a_host_that_cannot_be_reached_is_named(endpoint: str) -> None:
    provider = connect(Settings.model_validate({"api_key": KEY, "endpoint": endpoint}), context())
    with pytest.raises(Unavailable, match=endpoint.removeprefix("https://")):
        await provider.send(email())
    await provider.aclose()


async def test_a_host_that_does_not_encrypt_is_ours_to_mend() -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(client, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        settings = Settings.model_validate({"api_key": KEY, "endpoint": f"https://localhost:{port}"})
        provider = connect(settings, context())
        with pytest.raises(Misconfigured, match=f"no encryption with localhost:{port}"):
            await provider.send(email())
        await provider.aclose()


async def test_a_host_that_hangs_up_at_once_is_unavailable(far_end: HttpFarEnd) -> None:
    far_end.reset(handed_over=False)
    provider = connect(far_end.settings, context())
    with pytest.raises(Unavailable, match=r"localhost:\d+: \w"):
        await provider.send(email())
    await provider.aclose()


def _settings(recorder: Recorder) -> Settings:
    return Settings.model_validate({"api_key": KEY, "endpoint": recorder.url, "ca_file": ca_file()})
