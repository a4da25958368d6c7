"""When a request counts as handed over, and when a connection is reused."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from msgspec.structs import replace

from mailroom.errors import Declined, Misconfigured, SendingError, Unavailable, Uncertain
from mailroom.message import Receipt
from mailroom.providers import connect
from mailroom.providers.resend import Settings
from tests.clock import FakeClock, settle
from tests.http_recorder import Answer, Recorder, ca_file, json_answer, tls_context
from tests.mails import email
from tests.providers.contract import context
from tests.providers.http_service import HttpService, service_of
from tests.providers.test_resend import KEY, VENDOR

HUGE = email(html="<p>" + "x" * 16_000_000 + "</p>")
"""More than the system's buffers hold."""
CODE = replace(email(), is_code=True)


@pytest.fixture
async def service() -> AsyncIterator[HttpService]:
    async with service_of(VENDOR) as service:
        yield service


@pytest.mark.parametrize("tls", [False, True], ids=["in clear", "encrypted"])
async def test_a_request_that_is_not_fully_written_was_not_handed_over(
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
async def test_a_connection_that_the_vendor_closed_while_idle_is_replaced(
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
async def test_an_aborted_request_never_arrives_later(
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
async def test_an_endless_response_times_out_and_delays_no_other_mail(
    service: HttpService, pass_time: Callable[[float], None], storm: str
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
        calm = connect(service.settings, context())
        sending = asyncio.create_task(stormy.send(email()))
        for _ in range(5):
            await calm.send(email())
        if not sending.done():  # too long an extension may be refused at once
            pass_time(30)
        with pytest.raises(Uncertain):
            await sending
        await stormy.aclose()
        await calm.aclose()


async def test_a_huge_mail_arrives_complete(service: HttpService) -> None:
    provider = connect(service.settings, context())
    await provider.send(HUGE)
    await provider.send(email())
    await provider.aclose()
    assert service.recorder.requests[0].json["html"] == HUGE.html
    assert service.connections == 1


async def test_a_response_before_the_end_of_the_request_is_read() -> None:
    """It refuses the mail without having read it; the connection cannot be reused."""
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
async def test_a_redirect_to_a_broken_url_is_a_redirect(service: HttpService, location: str) -> None:
    """Httpx would parse it, though nothing follows it, and raise an error of its own."""
    service.answer(Answer(302, b"", {"Location": location}))
    provider = connect(service.settings, context())
    with pytest.raises(Misconfigured, match="endpoint"):
        await provider.send(email())
    await provider.aclose()


async def test_a_connection_that_was_idle_for_long_is_not_used(service: HttpService) -> None:
    clock = FakeClock()
    provider = connect(service.settings, context(clock=clock))
    await provider.send(email())
    await clock.advance(29)
    await provider.send(email())
    assert service.connections == 1
    await clock.advance(30)
    await provider.send(email())
    assert service.connections == 2
    await provider.aclose()


@pytest.mark.parametrize(
    ("announced", "seconds"),
    [("timeout=5", 4), ("max=100, Timeout=5", 4), ("timeout=1", 0), ("timeout=900", 30), ("timeout=x", 30), ("", 30)],
)
async def test_a_vendors_keep_alive_time_is_respected(service: HttpService, announced: str, seconds: float) -> None:
    """Node's servers close idle connections after 5 s: a request under way then would be Uncertain."""
    service.answer(Answer(200, VENDOR.accepted.body, {"Keep-Alive": announced}))
    clock = FakeClock()
    provider = connect(service.settings, context(clock=clock))
    await provider.send(email())
    await clock.advance(max(0, seconds - 0.1))
    await provider.send(email())
    assert service.connections == (1 if seconds else 2)
    await clock.advance(seconds)
    await provider.send(email())
    assert service.connections == (2 if seconds else 3)
    await provider.aclose()


async def test_after_connection_close_a_new_connection_is_opened(service: HttpService) -> None:
    service.answer(Answer(200, VENDOR.accepted.body, {"Connection": "close"}))
    provider = connect(service.settings, context())
    for _ in range(3):
        await provider.send(email())
    assert service.connections == 3
    await provider.aclose()


async def test_a_connection_with_an_unexpected_response_is_not_reused(service: HttpService) -> None:
    """A second response in the same packet would be read as the next mail's."""
    body = VENDOR.accepted.body
    once = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    service.recorder.answers = [Answer(raw=once + once)]
    provider = connect(service.settings, context())
    await provider.send(email())
    await provider.send(email())
    assert service.connections == 2
    await provider.aclose()


async def test_a_response_may_end_with_its_connection(service: HttpService) -> None:
    service.answer(Answer(raw=b"HTTP/1.0 200 OK\r\n\r\n" + VENDOR.accepted.body))
    provider = connect(service.settings, context())
    assert (await provider.send(email())).provider_message_id
    await provider.aclose()


async def test_a_compressed_response_is_not_decompressed(service: HttpService) -> None:
    """We request none: 64 KiB of gzip can be 64 MiB."""
    service.answer(Answer(200, b"\x1f\x8b\x08\x00 not really", {"Content-Encoding": "gzip"}))
    provider = connect(service.settings, context())
    with pytest.raises(Uncertain):
        await provider.send(email())
    await provider.aclose()


async def test_waiting_for_a_free_connection_counts_as_not_handed_over(
    service: HttpService, pass_time: Callable[[float], None]
) -> None:
    provider = connect(service.settings.model_copy(update={"concurrency": 1}), context())
    waiting = service.hang(handed_over=True)
    first = asyncio.create_task(provider.send(email()))
    await waiting.wait()
    second = asyncio.create_task(provider.send(email()))
    await asyncio.sleep(0)
    pass_time(30)
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(result) for result in results] == [Uncertain, Unavailable]
    await provider.aclose()


async def test_a_slow_tls_handshake_ends_with_the_connect_timeout(
    service: HttpService, pass_time: Callable[[float], None]
) -> None:
    """So a code has time left for the next provider."""
    waiting = service.hang(handed_over=False)
    provider = connect(service.settings, context())
    sending = asyncio.create_task(provider.send(email()))
    await waiting.wait()
    pass_time(service.settings.connect_timeout)
    with pytest.raises(Unavailable, match="within 10 s"):
        await sending
    await provider.aclose()
    await service.left_alone()


@pytest.mark.parametrize("setting", ["timeout", "connect_timeout"])
async def test_a_shorter_limit_of_the_operator_counts_until_a_code_is_connected(
    service: HttpService, pass_time: Callable[[float], None], setting: str
) -> None:
    waiting = service.hang(handed_over=False)
    provider = connect(service.settings.model_copy(update={setting: 2.0}), context())
    sending = asyncio.create_task(provider.send(CODE))
    await waiting.wait()
    await _assert_given_up_after(2, Unavailable, sending, pass_time)
    await provider.aclose()


@pytest.mark.parametrize("is_large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("timeout", [2.0, 30.0])
async def test_a_code_that_was_written_has_fifteen_seconds(
    service: HttpService,
    pass_time: Callable[[float], None],
    is_large: bool,  # noqa: FBT001  # a parameter of the test
    timeout: float,  # noqa: ASYNC109  # a setting
) -> None:
    waiting = service.hang(handed_over=True)
    provider = connect(service.settings.model_copy(update={"timeout": timeout}), context())
    sending = asyncio.create_task(provider.send(replace(HUGE, is_code=True) if is_large else CODE))
    await waiting.wait()
    await _assert_given_up_after(15, Uncertain, sending, pass_time, margin=5 if is_large else 1)
    await provider.aclose()


async def test_a_large_code_has_the_operators_timeout_to_be_written(pass_time: Callable[[float], None]) -> None:
    async with Recorder(VENDOR.accepted) as recorder:
        recorder.lazy = True
        provider = connect(_settings(recorder), context())
        sending = asyncio.create_task(provider.send(replace(HUGE, is_code=True)))
        await recorder.waiting.wait()
        await _assert_given_up_after(30, Unavailable, sending, pass_time)
        await provider.aclose()


async def test_a_code_waits_five_seconds_for_a_free_connection(
    service: HttpService, pass_time: Callable[[float], None]
) -> None:
    provider = connect(service.settings.model_copy(update={"concurrency": 1}), context())
    waiting = service.hang(handed_over=True)
    first = asyncio.create_task(provider.send(CODE))
    await waiting.wait()
    second = asyncio.create_task(provider.send(CODE))
    await settle()
    await _assert_given_up_after(5, Unavailable, second, pass_time)
    await provider.aclose()
    with pytest.raises(Uncertain):
        await first


async def _assert_given_up_after(
    seconds: int,
    kind: type[SendingError],
    sending: asyncio.Task[Receipt],
    pass_time: Callable[[float], None],
    *,
    margin: int = 1,
) -> None:
    """Leave a margin, in seconds, for what a busy machine takes to write the mail."""
    pass_time(seconds - margin)
    await settle()
    assert not sending.done()
    pass_time(margin)
    with pytest.raises(kind, match=f"within {seconds} s"):
        await sending


@pytest.mark.parametrize("endpoint", ["https://no-such-host.invalid", "https://127.0.0.1:1"])
async def test_a_host_that_cannot_be_reached_is_named(endpoint: str) -> None:
    provider = connect(Settings.model_validate({"api_key": KEY, "endpoint": endpoint}), context())
    with pytest.raises(Unavailable, match=endpoint.removeprefix("https://")):
        await provider.send(email())
    await provider.aclose()


async def test_a_host_without_tls_is_misconfigured() -> None:
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


async def test_a_host_that_closes_at_once_is_unavailable(service: HttpService) -> None:
    service.reset(handed_over=False)
    provider = connect(service.settings, context())
    with pytest.raises(Unavailable, match=r"localhost:\d+: \w"):
        await provider.send(email())
    await provider.aclose()


def _settings(recorder: Recorder) -> Settings:
    return Settings.model_validate({"api_key": KEY, "endpoint": recorder.url, "ca_file": ca_file()})
