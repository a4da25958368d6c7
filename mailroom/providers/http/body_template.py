"""Renders a request's body by an operator's template: Jinja in a sandbox, with the fields of a mail.

body = BodyTemplate('{"to": {{ to | tojson }}}', JSON).render(fields)
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from jinja2 import DictLoader, StrictUndefined, TemplateSyntaxError, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"

_HOSTILE: Final = 'a "quoted" \\ <b>&amp; %é+=1;\n\N{LINE SEPARATOR}'
_ADDRESS: Final = f"{_HOSTILE}@reader.example"
_MAILBOX: Final = {"email": _ADDRESS, "name": _HOSTILE}
_TRIALS: Final = tuple(
    {
        **dict.fromkeys(("id", "message_id", "subject", "html", "text", "language", "template"), _HOSTILE),
        "to": _ADDRESS,
        "from": _MAILBOX,
        "reply_to": reply_to,
        "headers": {"X-Header": _HOSTILE},
    }
    for reply_to in (_MAILBOX, None)
)
"""Mails with every field, whose values break a body that does not escape them."""

_TEXT: Final = r"(?:[A-Za-z0-9\-._~!$'()*+,;:@/?\[\]]|%[0-9A-Fa-f]{2})"
_FORM: Final = re.compile(rf"{_TEXT}+={_TEXT}*(?:&{_TEXT}+={_TEXT}*)*")


class BodyTemplate:
    """A template whose result is JSON or a form, whatever the mail holds."""

    def __init__(self, source: str, content_type: str) -> None:
        """Compile it, and render it for trial mails. Raises ValueError for a faulty template."""
        self._encode = _ENCODERS[content_type]
        environment = ImmutableSandboxedEnvironment(
            loader=DictLoader({}),  # nothing to include
            undefined=StrictUndefined,
            autoescape=False,  # it writes no HTML; what it writes is checked
        )
        environment.filters["tojson"] = _to_json
        try:
            self._template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise ValueError(f"line {error.lineno}: {error.message}") from None
        for fields in _TRIALS:
            mail = "a mail" if fields["reply_to"] else "a mail without reply_to"
            try:
                body = self._template.render(fields)
            except Exception as error:  # noqa: BLE001  # any error of the template; its text holds trial values only
                raise ValueError(f"{mail} fails with {type(error).__name__}: {error}") from None
            self._encode(body)

    def render(self, fields: Mapping[str, Any]) -> bytes:
        """Return the body. Raises ValueError, whose text holds no value of the mail."""
        try:
            body = self._template.render(fields)
        except Exception as error:  # noqa: BLE001  # any error of the template
            raise ValueError(f"it fails with {type(error).__name__}") from None
        return self._encode(body)


def _to_json(value: Any) -> str:
    if isinstance(value, Undefined):
        str(value)  # raises UndefinedError with the variable's name
    return msgspec.json.encode(value).decode()


def _encode_json(body: str) -> bytes:
    try:
        msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise ValueError("it makes no JSON: each value goes through tojson, as in {{ subject | tojson }}") from None
    return body.strip().encode()


def _encode_form(body: str) -> bytes:
    body = "".join(line.strip() for line in body.split("\n"))
    if not _FORM.fullmatch(body):
        raise ValueError("it makes no form: each value goes through urlencode, as in {{ subject | urlencode }}")
    return body.encode()


_ENCODERS: Final[Mapping[str, Callable[[str], bytes]]] = {JSON: _encode_json, FORM: _encode_form}
