"""How a response is read, whatever it holds."""

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable, Uncertain
from mailroom.providers.http.response import ApiResponse, by_status

NOW = 1_795_000_000.0


def answer(body: bytes = b"", status: int = 400, cut: bool = False, **headers: str) -> ApiResponse:  # noqa: FBT001, FBT002  # short
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ApiResponse(status, httpx.Headers(named), body, now=NOW, cut=cut)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, Declined) for status in (400, 409, 413, 422, 451)),
        *((status, Misconfigured) for status in (301, 302, 308, 401, 402, 403, 404, 405, 407)),
        *((status, Unavailable) for status in (408, 429)),
        *((status, Uncertain) for status in (500, 502, 503, 504, 599, 999)),
    ],
)
def test_a_status_without_a_body_is_classified(status: int, kind: type[SendingError]) -> None:
    assert by_status(status) is kind


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"message": "No such sender"}', "No such sender"),
        (b'{"Message": "No such sender", "ErrorCode": 400}', "No such sender"),
        (b'{"error": {"deep": 1}}', '{"error": {"deep": 1}}'),
        (b"  Forbidden \r\n", "Forbidden"),
        (b"<html><head><title>x</title></head><body><p>Bad&nbsp;Gateway</p></body></html>", "Bad&nbsp;Gateway"),
        (b"<script>alert(1)</script>Sorry", "Sorry"),
        (b"", "Bad Request"),
        (b"\xff\xfe\x00", "\ufffd\ufffd"),
        ("\u202edrow".encode(), "drow"),
    ],
)
def test_the_diagnostic_is_the_vendors_message(body: bytes, words: str) -> None:
    assert answer(body).diagnostic == words


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=2000), st.integers(100, 999))
def test_a_diagnostic_is_one_printable_line(body: bytes, status: int) -> None:
    words = answer(body, status).diagnostic
    assert 0 < len(words) <= 500
    assert words.isprintable()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_can_be_searched(value: object) -> None:
    import json  # noqa: PLC0415 - for this test only

    found = answer(json.dumps(value, allow_nan=False, default=str).encode() if _finite(value) else b"NaN")
    for path in (("message",), ("errors", 0, "message"), (0,), ("errors", -1)):
        assert isinstance(found.text(*path), str)


def _finite(value: object) -> bool:
    if isinstance(value, float):
        return value == value and abs(value) != float("inf")  # noqa: PLR0124  # NaN
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return all(map(_finite, value)) if isinstance(value, list) else True


@pytest.mark.parametrize(
    ("given_", "seconds"),
    [
        ("17", 17),
        ("0.5", 0.5),
        ("0", 0),
        ("Thu, 19 Nov 2026 05:47:20 GMT", 1795067240 - NOW),
        ("Thu, 19 Nov 1994 05:47:20 GMT", 0),
        ("999999999", 24 * 3600),
        *((wrong, None) for wrong in ("", "soon", "-5", "1e3", "nan", "Thu, 99 Nov 2026 05:47:20 GMT")),
    ],
)
def test_retry_after_is_seconds_or_a_date(given_: str, seconds: float | None) -> None:
    assert answer(retry_after=given_).retry_after() == seconds


def test_a_vendors_own_header_is_used_without_retry_after() -> None:
    assert answer(x_reset="30").retry_after("x-reset") == 30
    assert answer(x_reset=str(int(NOW) + 30)).retry_after("x-reset") == 30
    assert answer(x_reset="30", retry_after="5").retry_after("x-reset") == 5
    assert answer(x_reset="30").retry_after() is None


def test_a_truncated_body_is_no_json() -> None:
    assert answer(b'{"id": "1"}', cut=True).fields == {}
    assert answer(b'{"id": "1"}').text("id") == "1"


def test_an_error_has_diagnostic_code_and_wait() -> None:
    error = answer(b'{"message": "Slow down"}', 429, retry_after="9").error(Unavailable)
    assert isinstance(error, Unavailable)
    assert (error.diagnostic, error.code, error.retry_after) == ("Slow down", "HTTP 429", 9)
    assert error.is_throttled
    assert answer().error(Rejected, "Its own", code="E1").code == "E1"
    assert len(answer().error(Rejected, "x" * 9000, code="y" * 9000).code) <= 100


@pytest.mark.parametrize(
    ("error", "is_throttled"),
    [
        (answer(status=429).error(Unavailable), True),
        (answer(status=503, retry_after="9").error(Unavailable), True),
        (answer(status=400).error(Unavailable, is_throttled=True), True),
        (answer(b"Daily message quota exceeded.").error(Declined), True),
        (answer(status=503).error(Unavailable), False),
        (answer(status=400).error(Unavailable, retry_after=60), False),
    ],
)
def test_throttling_is_said_by_status_header_code_or_words(error: SendingError, is_throttled: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A wait that is our own choice is none."""
    assert isinstance(error, Unavailable)
    assert error.is_throttled is is_throttled


def test_refused_credentials_name_what_to_check() -> None:
    error = ApiResponse(401, httpx.Headers(), b"Forbidden", now=0).error()
    assert (type(error), error.hint) == (Misconfigured, "check the credentials of this provider")
