"""The contract of every provider over HTTP beside `ProviderContract`. Subclass it and set `vendor`."""

import json
import logging
from abc import abstractmethod
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from pydantic import ValidationError

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable, Uncertain
from mailroom.message import Address
from mailroom.providers import Provider, connect
from mailroom.providers.http.http_provider import HttpProvider
from mailroom.providers.http.response import ApiResponse as HttpAnswer
from tests.clock import FakeClock
from tests.http_recorder import Answer
from tests.mails import email
from tests.providers.contract import ProviderContract, context
from tests.providers.http_service import HttpService, Vendor, service_of

_ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


class HttpProviderContract(ProviderContract):
    """The promises of providers over HTTP, each held on real TLS connections."""

    signed_at: frozenset[str] = frozenset()
    """Headers that hold the time of a signature."""

    @property
    @abstractmethod
    def vendor(self) -> Vendor:
        """Return the vendor's test data."""

    @pytest.fixture
    async def service(self) -> AsyncIterator[HttpService]:
        """Open the vendor's API on loopback."""
        async with service_of(self.vendor) as service:
            yield service

    # What a recorder keeps includes refused requests, unlike an SMTP server: the first mail is among the subjects.
    async def test_after_a_refusal_the_next_mail_arrives(self, provider: Provider, service: HttpService) -> None:  # type: ignore[override]  # a narrower service
        for kind in (Rejected, Misconfigured, Unavailable):
            service.refuse(kind)
            with pytest.raises(kind):
                await provider.send(email(subject="refused"))
        service.accept()
        await provider.send(email(subject="next"))
        assert await service.subjects(4) == ["refused", "refused", "refused", "next"]
        assert service.connections == 1

    async def test_a_receipt_names_the_mail(self, provider: Provider) -> None:
        receipt = await provider.send(email())
        assert receipt.provider_message_id
        assert 0 < len(receipt.diagnostic) <= 500

    @pytest.mark.parametrize("written", ["17", "Wed, 18 Nov 2026 09:07:17 GMT"], ids=["seconds", "a date"])
    async def test_retry_after_is_honoured(self, service: HttpService, written: str) -> None:
        throttled = service.vendor.refusals[Unavailable]
        service.answer(replace(throttled, headers={**throttled.headers, "Retry-After": written}))
        clock = FakeClock(1_794_992_820.0)  # 09:07:00
        provider = connect(service.settings, context(clock=clock))
        with pytest.raises(Unavailable) as refused:
            await provider.send(email())
        await provider.aclose()
        assert refused.value.retry_after == 17

    async def test_an_invalid_retry_after_is_ignored(self, provider: Provider, service: HttpService) -> None:
        throttled = service.vendor.refusals[Unavailable]
        for written in ("soon", "-5", "nan", "1e400", "Wed, 99 Nov 2026 09:07:17 GMT", "٣", "9" * 400):
            service.answer(replace(throttled, headers={**throttled.headers, "Retry-After": written}))
            with pytest.raises(Unavailable) as refused:
                await provider.send(email())
            assert refused.value.retry_after is None or 0 <= refused.value.retry_after <= 24 * 3600

    async def test_a_500_in_the_vendors_format(self, provider: Provider, service: HttpService) -> None:
        """It is Unavailable if the vendor recognizes a repeated mail, else the mail may have been sent."""
        service.answer(service.vendor.server_fault)
        with pytest.raises(service.vendor.server_error):
            await provider.send(email())

    @pytest.mark.parametrize("status", [400, 406, 409, 413, 422, 451])
    @pytest.mark.parametrize("body", [b"", b"{}", b"We do not like it", b'{"message": "We do not like it"}'])
    async def test_a_refusal_that_is_not_about_the_address_is_not_final(
        self, provider: Provider, service: HttpService, status: int, body: bytes
    ) -> None:
        """The next provider is tried, and without one the message is held."""
        service.answer(Answer(status, body))
        with pytest.raises(Misconfigured) as refused:
            await provider.send(email())
        assert refused.value.diagnostic

    @pytest.mark.parametrize("status", [500, 502, 504])
    async def test_a_gateways_error_page_is_uncertain(
        self, provider: Provider, service: HttpService, status: int
    ) -> None:
        page = b"<html><head><title>nginx</title></head><body><center><h1>Bad Gateway</h1></center></body></html>"
        service.answer(Answer(status, page, {"Content-Type": "text/html"}))
        with pytest.raises(Uncertain, match="Bad Gateway") as failed:
            await provider.send(email())
        assert "<" not in failed.value.diagnostic
        assert failed.value.code == f"HTTP {status}"

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"OK",
            b"[]",
            b"null",
            b'"yes"',
            b'{"id":',
            b"\xff\xfe\x00",
            b"[" * 60_000,
            b"{}",
            b"<html>welcome</html>",
        ],
        ids=["none", "text", "list", "null", "string", "broken", "binary", "deep", "empty", "html"],
    )
    async def test_an_undocumented_success_is_uncertain(
        self, provider: Provider, service: HttpService, body: bytes
    ) -> None:
        service.answer(Answer(200, body))
        with pytest.raises(Uncertain) as failed:
            await provider.send(email())
        assert failed.value.diagnostic.isprintable()

    @pytest.mark.parametrize("status", [200, 400, 500])
    async def test_a_huge_body_is_not_read_to_its_end(
        self, provider: Provider, service: HttpService, status: int
    ) -> None:
        service.answer(Answer(status, b'{"message": "' + b"x" * 2_000_000 + b'"}'))
        with pytest.raises(SendingError) as failed:
            await provider.send(email())
        assert len(failed.value.diagnostic) <= 500
        service.accept()
        await provider.send(email())

    @pytest.mark.parametrize(
        "raw",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
            b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200_000 + b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" * 3,
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            b"",
        ],
        ids=["cut off", "endless head", "broken chunk", "never final", "another protocol", "nothing"],
    )
    async def test_a_malformed_response_is_uncertain(
        self, provider: Provider, service: HttpService, raw: bytes
    ) -> None:
        service.answer(Answer(raw=raw))
        with pytest.raises(Uncertain):
            await provider.send(email())
        service.accept()
        await provider.send(email())

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_redirects_are_not_followed(self, provider: Provider, service: HttpService, status: int) -> None:
        service.answer(Answer(status, b"", {"Location": f"{service.recorder.url}/elsewhere"}))
        with pytest.raises(Misconfigured, match="endpoint"):
            await provider.send(email())
        assert len(service.recorder.requests) == 1

    async def test_the_same_mail_is_the_same_request(self, provider: Provider, service: HttpService) -> None:
        """So a repeated idempotency key has the same body."""
        await provider.send(email())
        await provider.send(email())
        first, second = service.recorder.requests
        assert (first.target, first.body) == (second.target, second.body)
        assert {*first.headers} ^ {*second.headers} <= {
            header for header in (*first.headers, *second.headers) if header[0] in self.signed_at
        }

    async def test_our_own_id_is_sent(self, provider: Provider, service: HttpService) -> None:
        """The vendor's events are matched by it."""
        await provider.send(email())
        [request] = service.recorder.requests
        assert email().id in request.body.decode() + request.target

    async def test_every_header_of_the_mail_is_sent_or_refused(self, provider: Provider, service: HttpService) -> None:
        headers = (
            ("Auto-Submitted", "auto-generated"),
            ("List-Unsubscribe", f"<https://mail.acme.example/unsubscribe/{'t' * 700}>"),
            ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
            ("X-Entity-Ref-ID", email().id),
        )
        try:
            await provider.send(structs.replace(email(), headers=headers))
        except Misconfigured as refused:
            assert any(name in refused.diagnostic for name, _ in headers)  # noqa: PT017  # either is a pass, silence is not
            return
        [request] = service.recorder.requests
        body = request.body.decode()
        for name, value in headers:
            assert name in body
            assert value in (body if value in body else "".join(part for _, part in request.form))

    async def test_a_header_with_a_line_break_is_refused(self, provider: Provider, service: HttpService) -> None:
        with pytest.raises((Misconfigured, Rejected)):
            await provider.send(structs.replace(email(), headers=(("X-Fine", "a\r\nBcc: eve@evil.example"),)))
        assert not service.recorder.requests

    async def test_a_quoted_local_part_is_sent(self, provider: Provider, service: HttpService) -> None:
        await provider.send(email('"a..b"@docomo.example'))
        [request] = service.recorder.requests
        fields = [value for _, value in request.form] if b"%40" in request.body else [request.body.decode()]
        assert any(value in ('"a..b"@docomo.example', fields[0]) and "a..b" in value for value in fields)

    @pytest.mark.parametrize("local", ["eve@evil.example,x", "<eve@evil.example>", "eve@evil.example", "a;b", "a(b)"])
    async def test_a_recipient_that_may_be_read_as_several_is_left_to_other_providers(
        self, provider: Provider, service: HttpService, local: str
    ) -> None:
        with pytest.raises(Declined):
            await provider.send(email(f'"{local}"@acme.example'))
        assert not service.recorder.requests

    async def test_names_in_any_script_are_sent(self, provider: Provider, service: HttpService) -> None:
        for name in ("Ærø & Søn, Inc.", 'The "Acme" Team', "アクメ"):
            await provider.send(email(sender=Address("no-reply@acme.example", name)))
        assert len(await service.subjects(3)) == 3

    async def test_the_environments_proxies_are_not_used(
        self, service: HttpService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(variable, "http://127.0.0.1:9")
        provider = connect(service.settings, context())
        assert (await provider.send(email())).diagnostic
        await provider.aclose()

    async def test_a_certificate_of_an_unknown_authority_is_refused(self, service: HttpService) -> None:
        provider = connect(service.settings.model_copy(update={"ca_file": None}), context())
        with pytest.raises(Misconfigured, match="ca_file"):
            await provider.send(email())
        await provider.aclose()
        assert not service.recorder.requests

    async def test_no_secret_and_no_content_is_logged(
        self, provider: Provider, service: HttpService, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        await provider.send(email())
        service.echo()
        with pytest.raises(SendingError):
            await provider.send(email())
        logged = "\n".join(f"{record.getMessage()} {record.args!r}" for record in caplog.records)
        for secret in (*service.secrets, email().subject, email().text.strip(), email().recipient):
            assert secret not in logged

    def test_any_response_is_a_receipt_or_one_of_the_four_kinds(self) -> None:
        """For any values in the fields of the vendor's own responses."""
        provider = connect(self.vendor.settings.model_validate(self.vendor.options), context())
        assert isinstance(provider, HttpProvider)
        recorded = [answer.body for answer in (self.vendor.accepted, *self.vendor.refusals.values())]
        objects = [found for body in recorded if body and isinstance(found := json.loads(body), dict)]

        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(st.integers(200, 599), st.sampled_from(objects or [{}]), st.data())
        def read(status: int, known: dict[str, object], data: st.DataObject) -> None:
            changed = {key: data.draw(_ANY_JSON | st.just(value)) for key, value in known.items()}
            body = json.dumps(data.draw(st.just(changed) | _ANY_JSON)).encode()
            try:
                receipt = provider.parse_response(HttpAnswer(status, httpx.Headers(), body, now=0))
            except (Rejected, Misconfigured, Unavailable, Uncertain) as error:
                words, told = error.diagnostic, error.code
                assert told
            else:
                words, told = receipt.diagnostic, receipt.provider_message_id
                assert 200 <= status < 300 or words
            assert 0 < len(words) <= 500
            assert words.isprintable()
            assert told.isprintable()

        read()

    def test_credentials_must_be_given(self) -> None:
        with pytest.raises(ValidationError):
            self.vendor.settings.model_validate({})
