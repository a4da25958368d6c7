"""Other clients as oracles: the request of django-anymail or of a vendor's SDK for the same mail.

    theirs = await anymail_request("postmark", mail, VENDOR.accepted, server_token=TOKEN)
    ours = await our_request(VENDOR, mail)
    assert differences(theirs, ours) == {"Headers.X-PM-KeepID": (None, "true")}

A test lists every difference and gives its reason.
"""

import asyncio
import importlib
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

from msgspec.structs import replace

from mailroom.message import Address, Email
from mailroom.providers import connect
from tests.http_recorder import Answer, Recorder, Request
from tests.mails import email
from tests.providers.contract import context
from tests.providers.http_service import Vendor, service_of

MAILS: Final = {
    "plain": email(),
    "another script": email(
        sender=Address("no-reply@acme.example", "アクメ"),
        subject="Ваш код 🎉 验证码",
        text="Привет\n",
        html="<p>Привет</p>\n",
    ),
    "specials in names": replace(
        email(sender=Address("no-reply@acme.example", 'Acme "Co", Inc.')),
        reply_to=Address("help@acme.example", "Help; us"),
    ),
    "an international domain": replace(
        email("ada@xn--bcher-kva.example", sender=Address("no-reply@bücher.example", "Bücher")),
        reply_to=Address("hilfe@bücher.example"),
    ),
    "many headers": replace(
        email(),
        headers=(
            ("Content-Language", "de"),
            ("Auto-Submitted", "auto-generated"),
            ("X-Auto-Response-Suppress", "OOF, AutoReply"),
            ("List-Unsubscribe", f"<https://mail.acme.example/unsubscribe/{'t' * 400}>"),
            ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
        ),
    ),
}
"""The mails for which requests are compared."""


async def our_request(vendor: Vendor, mail: Email, **changes: Any) -> Request:
    """Return the request that we make; `changes` are settings."""
    async with service_of(vendor) as service:
        provider = connect(service.settings.model_copy(update=changes), context())
        await provider.send(mail)
        await provider.aclose()
        [request] = service.recorder.requests
        return request


async def client_request(client: Callable[[str], object], answer: Answer) -> Request:
    """Return the request that a blocking client makes when it is called with the address of a server, in clear."""
    async with Recorder(answer, tls=False) as recorder:
        await asyncio.to_thread(client, recorder.url)
        [request] = recorder.requests
        return request


async def anymail_request(esp: str, mail: Email, answer: Answer, *, path: str = "", **options: Any) -> Request:
    """Return the request that `anymail.backends.<esp>` makes; `path` is what its `api_url` ends with."""

    def send(url: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says so of vendors that it no longer tests
            backend = _backend(esp)(api_url=f"{url}{path}", **options)
            assert backend.send_messages([_message(mail)]) == 1

    return await client_request(send, answer)


def differences(theirs: Request, ours: Request) -> dict[str, tuple[Any, Any]]:
    """Return the differences in target, headers and body: place → (theirs, ours), None where there is nothing."""
    left, right = dict(_places(theirs)), dict(_places(ours))
    return {
        place: (left.get(place), right.get(place))
        for place in (*left, *(place for place in right if place not in left))
        if left.get(place) != right.get(place)
    }


def _places(request: Request) -> Iterator[tuple[str, Any]]:
    yield "target", (request.method, request.target)
    yield from ((f"HTTP {name}", value) for name, value in request.headers if name not in _CLIENTS_OWN)
    if "json" in request.header("content-type"):
        yield from _flat(request.json, "")
    else:
        for number, (name, value) in enumerate(request.form):
            again = sum(earlier == name for earlier, _ in request.form[:number])
            yield f"{name}[{again}]" if again else name, value


def _flat(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a JSON value; `{"Name": …, "Value": …}` is a header, whose order does not matter."""
    if isinstance(value, dict) and value.keys() == {"Name", "Value"}:
        yield f"{place.rpartition('[')[0]}.{value['Name']}", value["Value"]
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _flat(item, f"{place}[{index}]")
    else:
        yield place, value


_CLIENTS_OWN: Final = frozenset({"accept", "accept-encoding", "connection", "content-length", "host", "user-agent"})
"""Headers about the client or the connection, not about the mail."""


@cache
def _backend(esp: str) -> Any:
    from django.conf import settings  # noqa: PLC0415  # Django wants to be configured before the rest of it is imported

    if not settings.configured:
        settings.configure(USE_I18N=False, ANYMAIL={})
    return importlib.import_module(f"anymail.backends.{esp}").EmailBackend


def _message(mail: Email) -> Any:
    from django.core.mail import EmailMultiAlternatives  # noqa: PLC0415  # likewise

    stored = mail.template_at_provider
    message = EmailMultiAlternatives(
        "" if stored else mail.subject,
        "" if stored else mail.text,
        _written(mail.sender),
        [mail.recipient],
        reply_to=[_written(mail.reply_to)] if mail.reply_to else None,
        headers={**dict(mail.headers), "Message-ID": mail.message_id},
    )
    if stored:
        message.template_id, message.merge_global_data = stored, dict(mail.variables)
    else:
        message.attach_alternative(mail.html, "text/html")
    message.metadata = {"mailroom_id": mail.id}
    return message


def _written(address: Address) -> str:
    if not address.name:
        return address.email
    quoted = address.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{address.email}>'
