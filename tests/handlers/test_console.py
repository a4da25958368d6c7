"""The operator's pages: who may see them, and that a mail can do no harm there."""

import html
import re
from collections.abc import Iterator
from contextlib import ExitStack
from email.message import EmailMessage
from urllib.parse import quote

import pytest

from mailroom.outbox.captured_mails import CapturedMail
from mailroom.providers import module_of
from tests.clock import START
from tests.handlers.serving import Answer, Client, Running, request, served

PASSWORD = "correct horse & battery"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def dev() -> Iterator[Running]:
    with served(dev=True) as server:
        _capture(server, "one", subject="Your code is 123456", text="123456", page="<p>123456</p>")
        _capture(server, "two", subject=HOSTILE, text=HOSTILE, page=f"<p>{HOSTILE}</p>", recipient=HOSTILE)
        _capture(server, "three", subject="", text="Only text")
        yield server


@pytest.fixture(scope="module")
def closed() -> Iterator[Running]:
    with served(console={"password": PASSWORD}) as server:
        _capture(server, "one", subject="Your code is 123456", text="123456", page="<p>123456</p>")
        yield server


def _capture(
    server: Running, name: str, *, subject: str, text: str, page: str = "", recipient: str = "ada@example.com"
) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "Acme <no-reply@acme.example>", "ada@example.com", subject
    mail.set_content(text)
    if page:
        mail.add_alternative(page, subtype="html")
    raw = mail.as_bytes()
    server.parts.captured.mails.append(
        (CapturedMail(name, START, "no-reply@acme.example", recipient, subject, len(raw)), raw)
    )


def _sign_in(server: Running, password: str = PASSWORD, **headers: str) -> Answer:
    form = f"password={quote(password)}".encode()
    return server.ask("POST", "/console/login", body=form, **headers)


def _cookie(answer: Answer) -> str:
    return "; ".join(cookie.partition(";")[0] for cookie in answer.headers["set-cookie"].splitlines())


def _guess(client: Client) -> None:
    client.send(request("POST", "/console/login", body=b"password=wrong"))


def test_the_list_shows_the_newest_first(dev: Running) -> None:
    page = dev.ask("GET", "/console/captured").body.decode()
    assert [page.index(f"/console/captured/{name}") for name in ("three", "two", "one")] == sorted(
        page.index(f"/console/captured/{name}") for name in ("one", "two", "three")
    )
    assert "Your code is 123456" in page
    assert "Nov 18, 11:06:40" in page


def test_an_empty_list_shows_how_to_send_a_mail() -> None:
    with served(dev=True) as server:
        page = html.unescape(server.ask("GET", "/console/captured", host="localhost:8000").body.decode())
        assert "curl http://localhost:8000/email" in page


def test_a_mail_is_shown_rendered_as_text_and_as_source(dev: Running) -> None:
    page = dev.ask("GET", "/console/captured/one").body.decode()
    frame = re.search(r"<iframe ([^>]*)>", page)
    assert frame
    assert 'sandbox=""' in frame[1]
    assert "&lt;p&gt;123456&lt;/p&gt;" in frame[1]
    assert "<pre>123456\n</pre>" in page
    assert "Content-Type: multipart/alternative" in page


def test_a_mail_without_html_shows_its_text(dev: Running) -> None:
    page = dev.ask("GET", "/console/captured/three").body.decode()
    assert "<pre>Only text\n</pre>" in page
    assert "(no subject)" in page


@pytest.mark.parametrize("path", ["/console/captured", "/console/captured/one"])
def test_a_subject_has_its_own_text_direction(dev: Running, path: str) -> None:
    """A code before Arabic text is shown at its right."""
    assert "<bdi>Your code is 123456</bdi>" in dev.ask("GET", path).body.decode()


@pytest.mark.parametrize("path", ["/console/captured", "/console/captured/two"])
def test_a_hostile_mail_is_escaped(dev: Running, path: str) -> None:
    answer = dev.ask("GET", path)
    assert answer.status == 200
    assert b"<script" not in answer.body
    assert b"<img" not in answer.body


@pytest.mark.parametrize("path", ["/console/captured", "/console/captured/two", "/", "/console/captured/gone"])
def test_every_page_forbids_scripts_frames_and_caching(dev: Running, path: str) -> None:
    headers = dev.ask("GET", path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


def test_a_mail_is_downloaded_unchanged(dev: Running) -> None:
    answer = dev.ask("GET", "/console/captured/two.eml")
    assert answer.body == dev.parts.captured.mails[1][1]
    assert answer.headers["content-type"] == "message/rfc822"
    assert answer.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize("name", ["gone", "gone.eml", "..%2f..%2fetc%2fpasswd", "%00", "'%20or%201=1--", "x" * 3000])
def test_an_unknown_mail_is_a_404(dev: Running, name: str) -> None:
    assert dev.ask("GET", f"/console/captured/{name}").status == 404


@pytest.mark.parametrize("path", ["/console", "/console/captured", "/console/captured/one.eml", "/console/login"])
def test_without_a_password_there_is_no_console(server: Running, path: str) -> None:
    assert server.ask("GET", path).status == 404


@pytest.mark.parametrize("path", ["/console/captured", "/console/captured/one", "/console/captured/one.eml"])
def test_a_request_without_a_session_is_redirected_to_the_login(closed: Running, path: str) -> None:
    for cookie in ("", "mailroom_console=", "mailroom_console=MTc5OTk5OTk5OQ.forged", "mailroom_console=\xe4"):
        answer = closed.ask("GET", path, cookie=cookie)
        assert (answer.status, answer.headers["location"]) == (303, "/console/login")
        assert b"123456" not in answer.body


def test_the_password_begins_a_session_and_signing_out_ends_it(closed: Running) -> None:
    assert b'type="password"' in closed.ask("GET", "/console/login").body
    answer = _sign_in(closed)
    assert (answer.status, answer.headers["location"]) == (303, "/console/captured")
    attributes = answer.headers["set-cookie"].lower()
    assert all(word in attributes for word in ("httponly", "samesite=strict", "path=/console"))
    assert "secure" not in attributes
    page = closed.ask("GET", "/console/captured", cookie=_cookie(answer))
    assert b"Your code is 123456" in page.body
    assert b"Sign out" in page.body
    out = closed.ask("POST", "/console/logout", cookie=_cookie(answer))
    assert 'mailroom_console=""' in out.headers["set-cookie"]
    assert b"You are signed out." in closed.ask("GET", out.headers["location"]).body
    stolen = closed.ask("GET", "/console/captured", cookie=_cookie(answer))
    assert (stolen.status, stolen.headers["location"]) == (303, "/console/login"), "the session ended here, too"


def test_while_the_outbox_cannot_be_read_nothing_is_shown(closed: Running) -> None:
    """The session may have ended."""
    cookie = _cookie(_sign_in(closed))
    closed.parts.silent = True
    try:
        assert closed.ask("GET", "/console/captured/one", cookie=cookie).status == 503
    finally:
        closed.parts.silent = False


def test_a_sign_out_that_cannot_be_stored_is_a_503(closed: Running) -> None:
    cookie = _cookie(_sign_in(closed))
    closed.parts.full = True
    try:
        assert closed.ask("POST", "/console/logout", cookie=cookie).status == 503
    finally:
        closed.parts.full = False


def test_a_hundred_guessing_connections_do_not_delay_the_right_password() -> None:
    """Their responses are delayed for ever, because the clock does not advance."""
    with served(console={"password": PASSWORD}) as server, ExitStack() as stack:
        for _ in range(100):
            _guess(stack.enter_context(Client(server.port)))
        assert _sign_in(server).status == 303


def test_guesses_beyond_the_limit_are_not_compared() -> None:
    with served(console={"password": PASSWORD}) as server, ExitStack() as stack:
        known = _sign_in(server)
        for _ in range(256):  # so many answers wait
            _guess(stack.enter_context(Client(server.port)))
        with Client(server.port) as client:
            while True:
                _guess(client)
                answer = client.answer()
                if answer.status == 429:
                    break
                assert answer.status == 401
        assert answer.headers["retry-after"] == "1"
        assert b"too many wrong passwords" in answer.body
        assert _sign_in(server).status == 429
        assert _sign_in(server, cookie=_cookie(known)).status == 303


def test_behind_tls_the_cookie_is_secure(closed: Running) -> None:
    assert "secure" in _sign_in(closed, x_forwarded_proto="https").headers["set-cookie"].lower()


def test_a_session_ends_after_twelve_hours(closed: Running) -> None:
    cookie = _cookie(_sign_in(closed))
    closed.clock.set(closed.clock.now() + 12 * 3600 - 1)
    assert closed.ask("GET", "/console/captured", cookie=cookie).status == 200
    closed.clock.set(closed.clock.now() + 1)
    assert closed.ask("GET", "/console/captured", cookie=cookie).status == 303


def test_another_password_ends_every_session_and_another_key_too_unless_rotated(closed: Running) -> None:
    cookie = _cookie(_sign_in(closed))
    old = "a secret key of the tests"
    for changes, status in (
        ({}, 200),
        ({"secret_key": ["a new one", old]}, 200),
        ({"secret_key": "a new one"}, 303),
        ({"console": {"password": "another"}}, 303),
    ):
        with served(**({"console": {"password": PASSWORD}} | changes)) as server:
            assert server.ask("GET", "/console/captured", cookie=cookie).status == status


def test_a_form_from_another_site_is_refused(closed: Running) -> None:
    assert _sign_in(closed, sec_fetch_site="cross-site").status == 403
    assert _sign_in(closed, origin="https://evil.example").status == 403
    assert _sign_in(closed, origin="http://localhost").status == 303
    assert _sign_in(closed, sec_fetch_site="same-origin", origin="http://localhost").status == 303
    assert "set-cookie" not in closed.ask("POST", "/console/logout", sec_fetch_site="cross-site").headers


def test_a_provider_in_its_sandbox_is_named(dev: Running) -> None:
    """Operators who miss a mail look here first."""
    sendgrid = module_of("sendgrid").Settings
    key = {"type": "sendgrid", "api_key": "SG.0123456789"}
    providers = {
        "trial": sendgrid.model_validate({**key, "sandbox": True}),
        "main": sendgrid.model_validate(key),
    }
    with served(dev=True, providers=providers) as server:
        page = server.ask("GET", "/console/captured").body.decode()
    assert "The provider <b>trial</b> is in its sandbox" in page
    assert "<b>main</b>" not in page
    assert "sandbox:" not in dev.ask("GET", "/console/captured").body.decode()
