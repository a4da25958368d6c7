"""Writes a request's body by an operator's template: Jinja in a sandbox, over the fields of a mail."""

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
"""Mails that hold everything, of which no value can go unescaped."""

_TEXT: Final = r"(?:[A-Za-z0-9\-._~!$'()*+,;:@/?\[\]]|%[0-9A-Fa-f]{2})"
_FORM: Final = re.compile(rf"{_TEXT}+={_TEXT}*(?:&{_TEXT}+={_TEXT}*)*")


class BodyTemplate:
    """A template whose result is JSON or a form, whatever the mail holds."""

    def __init__(self, source: str, content_type: str) -> None:
        """Compile it, and try it on mails that hold everything. Raises ValueError, saying what is wrong."""
        self._checked = _CHECKS[content_type]
        environment = ImmutableSandboxedEnvironment(
            loader=DictLoader({}),  # nothing to include
            undefined=StrictUndefined,
            autoescape=False,  # it writes no HTML; what it writes is checked
        )
        environment.filters["tojson"] = _as_json
        try:
            self._template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise ValueError(f"line {error.lineno}: {error.message}") from None
        for fields in _TRIALS:
            with_what = "a mail" if fields["reply_to"] else "a mail without reply_to"
            try:
                body = self._template.render(fields)
            except Exception as error:  # noqa: BLE001  # whatever the template does; of values it has the trial's alone
                raise ValueError(f"{with_what} fails with {type(error).__name__}: {error}") from None
            self._checked(body)

    def write(self, fields: Mapping[str, Any]) -> bytes:
        """Return the body. Raises ValueError, without any value of the mail's."""
        try:
            body = self._template.render(fields)
        except Exception as error:  # noqa: BLE001  # whatever the template does with a mail it was not tried on
            raise ValueError(f"it fails with {type(error).__name__}") from None
        return self._checked(body)


def _as_json(value: Any) -> str:
    if isinstance(value, Undefined):
        str(value)  # raises, naming it
    return msgspec.json.encode(value).decode()


def _json(body: str) -> bytes:
    try:
        msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise ValueError("it makes no JSON: each value goes through tojson, as in {{ subject | tojson }}") from None
    return body.strip().encode()


def _form(body: str) -> bytes:
    body = "".join(line.strip() for line in body.split("\n"))
    if not _FORM.fullmatch(body):
        raise ValueError("it makes no form: each value goes through urlencode, as in {{ subject | urlencode }}")
    return body.encode()


_CHECKS: Final[Mapping[str, Callable[[str], bytes]]] = {JSON: _json, FORM: _form}
