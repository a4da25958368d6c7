"""What is left of a provider's words."""

from hypothesis import given
from hypothesis import strategies as st

from mailroom.courier.masking import masked
from mailroom.message import MASK, Message, Priority


def _message(**payload: object) -> Message:
    return Message(
        id="0199a000-0000-7000-8000-000000000000",
        template="SignIn",
        priority=Priority.CODE,
        recipient="Ada+tag@Example.com",
        payload=payload,
        created_at=0.0,
        expires_at=600.0,
    )


def test_codes_links_and_addresses_are_masked() -> None:
    """Postfix names the recipient, content filters quote the subject, gateways echo the body."""
    message = _message(code="314159", link="https://app.example.com/i?token=s3cr3t&x=1")
    words = (
        '550 5.7.1 <ada+tag@example.com>: "314159 is your code" looks like spam, see '
        "https://app.example.com/i?token=s3cr3t&amp;x=1 or "
        "https%3A%2F%2Fapp.example.com%2Fi%3Ftoken%3Ds3cr3t%26x%3D1"
    )
    assert masked(words, message) == f'550 5.7.1 <{MASK}>: "{MASK} is your code" looks like spam, see {MASK} or {MASK}'


def test_letters_beyond_ascii_are_masked_however_they_are_written() -> None:
    """Gateways answer in JSON and with the URL that they were asked for."""
    message = _message(user={"name": "Мария"}, token="Schlüssel")
    words = "550 \\u041c\\u0430\\u0440\\u0438\\u044f, %D0%9C%D0%B0%D1%80%D0%B8%D1%8F, Schl%C3%BCssel, Мария"
    assert masked(words, message) == f"550 {MASK}, {MASK}, {MASK}, {MASK}"


def test_the_providers_own_words_stay() -> None:
    """A short value would garble them, and names of products are no secrets."""
    message = _message(code="314159", user={"name": "to"}, application={"name": "Harbor"})
    assert masked("450 4.2.1 to Harbor: try again", message) == "450 4.2.1 to Harbor: try again"


def test_words_are_one_bounded_printable_line() -> None:
    """They go into logs and onto a terminal."""
    assert masked("a\r\n\x1b[31mb\x00c\u202ed", _message()) == "a [31mb c d"
    assert len(masked("x" * 100_000, _message())) == 500


@given(st.text(min_size=4, max_size=50), st.text(max_size=30), st.text(max_size=30))
def test_no_secret_survives(secret: str, before: str, after: str) -> None:
    """Whatever it is made of."""
    visible = " ".join("".join(char if char.isprintable() else " " for char in secret).split())
    result = masked(f"{before}{secret}{after}", _message(code=secret))
    assert len(visible) < 4 or visible in MASK or visible not in result or visible in f"{before} {after}"
