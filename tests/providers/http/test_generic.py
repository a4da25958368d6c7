"""The generic provider: its requests with and without a template, and how it reads responses."""

import json
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs
from pydantic import ValidationError

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable, Uncertain
from mailroom.message import Address, Email
from mailroom.providers import Provider, connect
from mailroom.providers.http.generic import Settings
from tests.http_recorder import Answer, Request, json_answer
from tests.mails import email
from tests.providers.contract import context
from tests.providers.http_contract import HttpProviderContract
from tests.providers.http_service import HttpService, Vendor, service_of

TOKEN = "gateway-token-0123456789"
IN_PATH = "path-token-0123456789"
IN_QUERY = "query-token-0123456789"
URL = f"https://gateway.acme.example/hooks/{IN_PATH}/mail?key={IN_QUERY}&v=2"

VENDOR = Vendor(
    settings=Settings,
    options={"url": URL, "headers": {"Authorization": f"Bearer {TOKEN}", "X-Version": "2"}},
    secrets=(TOKEN, IN_PATH, IN_QUERY),
    accepted=json_answer(202, {"id": "gw-1", "message": "Taken"}),
    refusals={
        Rejected: json_answer(422, {"error": "to is not an address"}),
        Misconfigured: json_answer(401, {"error": "who are you?"}),
        Unavailable: json_answer(429, {"error": "slow down"}),
    },
    subject=lambda request: request.json["subject"],
    server_error=Uncertain,
)

JSON_BODY = """
{
  "personalizations": [{"to": [{"email": {{ to | tojson }}}]}],
  "from": {{ from | tojson }},
  {% if reply_to %}"reply_to": {{ reply_to.email | tojson }},{% endif %}
  "subject": {{ subject | tojson }},
  "headers": [{% for name, value in headers.items() %}
    {"name": {{ name | tojson }}, "value": {{ value | tojson }}}{{ "," if not loop.last }}
  {% endfor %}],
  "content": {{ (text ~ html) | tojson }},
  "category": {{ ("welcome" if template == "Welcome" else "code") | tojson }}
}
"""
FORM_BODY = """
apikey=0123456789
&from={{ from.email | urlencode }}
&to={{ to | urlencode }}
&subject={{ subject | urlencode }}
&text={{ text | urlencode }}
"""
FORM = "application/x-www-form-urlencoded"


async def asked(mail: Email, **options: Any) -> Request:
    """Return the request for a mail with these settings."""
    async with service_of(replace(VENDOR, options={**VENDOR.options, **options})) as service:
        provider = connect(service.settings, context())
        await provider.send(mail)
        await provider.aclose()
        [request] = service.recorder.requests
        return request


def faults(**options: Any) -> str:
    """Return the errors for these settings."""
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({"url": URL, **options})
    return "; ".join(error["msg"] for error in refused.value.errors())


class TestHttp(HttpProviderContract):
    vendor = VENDOR

    async def test_the_request_is_the_documented_one(self, provider: Provider, service: HttpService) -> None:
        mail = structs.replace(email(), reply_to=Address("hilfe@bücher.example"))
        receipt = await provider.send(mail)
        assert (receipt.provider_message_id, receipt.diagnostic) == ("gw-1", "Taken")
        [request] = service.recorder.requests
        assert (request.method, request.target) == ("POST", f"/hooks/{IN_PATH}/mail?key={IN_QUERY}&v=2")
        assert request.header("content-type") == "application/json"
        assert request.header("authorization") == f"Bearer {TOKEN}"
        assert request.header("x-version") == "2"
        assert request.header("idempotency-key") == mail.id
        assert request.json == {
            "id": mail.id,
            "message_id": mail.message_id,
            "from": {"email": "no-reply@acme.example", "name": "Acme"},
            "to": "ada@reader.example",
            "reply_to": {"email": "hilfe@xn--bcher-kva.example", "name": ""},
            "subject": "Your code",
            "html": mail.html,
            "text": mail.text,
            "headers": {"Auto-Submitted": "auto-generated"},
            "language": "en",
            "template": "SignIn",
        }

    # Any 2xx is a yes here: whoever answers knows nothing of us.
    @pytest.mark.parametrize(
        "body",
        [b"", b"OK", b"[]", b'{"id":', b"\xff\xfe\x00", b"[" * 60_000, b"{}", b'{"id": {"a": 1}}', b"x" * 200_000],
        ids=["none", "text", "list", "broken", "binary", "deep", "empty", "odd id", "huge"],
    )
    @pytest.mark.parametrize("status", [200, 201, 204, 299])
    async def test_an_undocumented_success_is_uncertain(  # type: ignore[override]  # here it is a yes
        self, provider: Provider, service: HttpService, status: int, body: bytes
    ) -> None:
        """Any 2xx is a success, whatever its body."""
        service.answer(Answer(status, b"" if status == 204 else body))
        receipt = await provider.send(email())
        assert receipt.provider_message_id == ""
        assert 0 < len(receipt.diagnostic) <= 500
        assert receipt.diagnostic.isprintable()

    async def test_a_body_that_repeats_the_mail_is_not_recorded(self, provider: Provider, service: HttpService) -> None:
        service.answer(json_answer(200, {"json": {"html": email().html, "text": email().text}}))
        assert (await provider.send(email())).diagnostic == "HTTP 200"

    @pytest.mark.parametrize("status", [400, 500])
    async def test_a_huge_body_is_not_read_to_its_end(
        self, provider: Provider, service: HttpService, status: int
    ) -> None:
        await super().test_a_huge_body_is_not_read_to_its_end(provider, service, status)

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, Declined),
            (402, Misconfigured),
            (403, Misconfigured),
            (404, Misconfigured),
            (408, Unavailable),
            (413, Declined),
            (500, Uncertain),
            (502, Uncertain),
            (503, Unavailable),
            (504, Uncertain),
            (599, Uncertain),
        ],
    )
    async def test_a_status_is_classified(
        self, provider: Provider, service: HttpService, status: int, kind: type[SendingError]
    ) -> None:
        service.answer(json_answer(status, {"detail": "no"}, {"Retry-After": "7"}))
        with pytest.raises(kind, match="no") as refused:
            await provider.send(email())
        assert refused.value.code == f"HTTP {status}"
        if isinstance(refused.value, Unavailable):
            assert refused.value.retry_after == 7

    async def test_a_header_of_the_operators_replaces_ours(self, service: HttpService) -> None:
        """In upper and lower case."""
        request = await asked(email(), headers={"accept": "text/plain", "USER-AGENT": "Acme"})
        assert request.header("accept") == "text/plain"
        assert request.header("user-agent") == "Acme"


async def test_a_template_renders_json() -> None:
    mail = structs.replace(
        email(subject='A "quoted" \\ Ваш код 🎉', text="a\u2028b\n"), reply_to=Address("help@acme.example")
    )
    request = await asked(mail, body=JSON_BODY)
    assert request.header("content-type") == "application/json"
    assert request.json == {
        "personalizations": [{"to": [{"email": "ada@reader.example"}]}],
        "from": {"email": "no-reply@acme.example", "name": "Acme"},
        "reply_to": "help@acme.example",
        "subject": mail.subject,
        "headers": [{"name": "Auto-Submitted", "value": "auto-generated"}],
        "content": mail.text + mail.html,
        "category": "code",
    }


async def test_a_template_renders_a_form() -> None:
    """Its own line breaks are not part of it; those of the mail are."""
    mail = email("ada+b&c=d@reader.example", subject="100 % für dich & mich = 1+1", text="One\nTwo\n")
    request = await asked(mail, body=FORM_BODY, content_type=FORM)
    assert request.header("content-type") == FORM
    assert request.form == [
        ("apikey", "0123456789"),
        ("from", "no-reply@acme.example"),
        ("to", "ada+b&c=d@reader.example"),
        ("subject", mail.subject),
        ("text", "One\nTwo\n"),
    ]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('{"subject": "{{ subject }}"}', "tojson"),
        ('{"to": "{{ to }}"}', "tojson"),
        ('{"from": {{ from }}}', "tojson"),
        ("{{ subject }}", "tojson"),
        ("", "tojson"),
        ('{"subject": {{ subject | tojson }', "line 1"),
        ('{\n"a": {{ nobody | tojson }}}', "'nobody' is undefined"),
        ('{"a": {{ reply_to.email | tojson }}}', "without reply_to"),
        ('{"a": {{ subject | shout }}}', "shout"),
        ('{"a": {{ subject.__class__.__mro__ | tojson }}}', "unsafe"),
        ('{"a": {{ headers.clear() }}}', "unsafe"),
        ('{% include "/etc/passwd" %}', "TemplateNotFound"),
        ('{"a": {{ 1 / 0 }}}', "ZeroDivisionError"),
        ('{"a": {% for i in range(1000000) %}{% endfor %}1}', "OverflowError"),
    ],
)
def test_a_template_that_would_fail_is_refused_at_start(body: str, problem: str) -> None:
    said = faults(body=body)
    assert problem in said
    assert "body: " in said


@pytest.mark.parametrize(
    "body",
    ["subject={{ subject }}", "to={{ to }}", "just text", "={{ to | urlencode }}", "", "a={{ from.email }}&b=1"],
)
def test_a_form_that_would_break_is_refused_at_start(body: str) -> None:
    assert "urlencode" in faults(body=body, content_type=FORM)


async def test_a_mail_for_which_the_template_fails_is_misconfigured() -> None:
    """The diagnostic holds nothing of the mail."""
    body = '{"a": {{ subject | tojson if subject != "Your code" else subject }}, "b": 1}'
    with pytest.raises(Misconfigured, match="makes no JSON") as refused:
        await asked(email(), body=body)
    assert "Your code" not in refused.value.diagnostic
    with pytest.raises(Misconfigured, match="ZeroDivisionError"):
        await asked(email(), body='{"a": {{ 1 / (0 if subject == "Your code" else 1) }}}')


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gateway.acme.example/mail",
        "ftp://gateway.acme.example/",
        "https:///mail",
        "https://user:hunter2hunter2@gateway.acme.example/",
        "https://gateway.acme.example/mail#hunter2hunter2",
        "https://gateway.acme.example/hunter2hunter2 mail",
        "https://gateway.acme.example/hunter2hunter2\r\nmail",
        "https://gateway.acme.example/hunter2hunter2/ümlaut",
        "https://gateway.acme.example:99999/hunter2hunter2",
        "https://[::1/hunter2hunter2",
    ],
)
def test_an_invalid_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({"url": url})
    assert "hunter2" not in json.dumps([error["msg"] for error in refused.value.errors()])


@pytest.mark.parametrize(
    "headers",
    [
        {"X Y": "hunter2hunter2"},
        {"X-Fine": "hunter2hunter2\r\nX-Evil: 1"},
        {"X-Fine": "hunter2hunter2é"},
        {"X-Fine": ""},
        {"X-Fine": " hunter2hunter2"},
        {"Host": "hunter2hunter2"},
        {"content-length": "0"},
        {"Content-Type": "text/plain"},
        {"X-Fine": "1", "x-fine": "2"},
    ],
)
def test_an_invalid_header_is_refused_and_not_shown(headers: dict[str, str]) -> None:
    assert "hunter2" not in faults(headers=headers)


def test_settings_that_exclude_each_other_are_refused() -> None:
    assert "exclude" in faults(forward=True, body="1")
    assert "a form needs a body" in faults(forward=True, content_type=FORM)
    assert "a form needs a body" in faults(content_type=FORM)


def test_settings_show_no_secret() -> None:
    settings = Settings.model_validate(VENDOR.options)
    for secret in VENDOR.secrets:
        assert secret not in f"{settings} {settings!r} {settings.model_dump_json()}"


async def test_a_url_without_a_path_is_the_root() -> None:
    request = await asked(email(), url="https://gateway.acme.example")
    assert request.target == "/"
