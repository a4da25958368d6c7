"""Recognizes Logto's JSON: a connector's configuration, a connector's row, or email templates."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn

from mailroom.errors import ImportingError
from mailroom.importing.plan import Connector, Ledger

LARGEST: Final = 10 * 1024 * 1024
"""Octets of one document."""

CONNECTORS: Final = {
    "simple-mail-transfer-protocol": "smtp",
    "sendgrid-email-service": "sendgrid",
    "aws-ses-mail": "ses",
    "mailgun-email": "mailgun",
    "aliyun-direct-mail": "aliyun",
    "postmark-mail": "postmark",
    "smtp2go-email-service": "smtp2go",
    "mailjunky-email-service": "mailjunky",
}
"""Logto's `connectorId` → the provider's type here (the packages' own metadata, @logto/connector-…)."""

TYPES: Final = tuple(sorted(CONNECTORS.values()))

_BUILT_IN: Final = frozenset({"logto-email", "logto-email-service"})
_HTTP: Final = "http-email"

Found = Connector | Mapping[str, Any]
"""A connector, or an unvalidated row of `/api/email-templates`."""


def decode(raw: bytes) -> Any:
    """Parse JSON. Raises ImportingError if it is too large, nested too deeply, or not JSON."""
    if len(raw) > LARGEST:
        raise ImportingError(f"is larger than {LARGEST // 1024 // 1024} MiB; no Logto writes that")
    try:
        return json.loads(raw.decode("utf-8-sig"), parse_constant=_reject_constant)
    except UnicodeDecodeError:
        raise ImportingError("is not UTF-8 text") from None
    except RecursionError:
        raise ImportingError("is nested too deeply") from None
    except ValueError as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise ImportingError(f"is not JSON{where}") from None


def _reject_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")


def recognize(document: Any, source: str, ledger: Ledger, *, assume: str | None = None) -> Iterator[Found]:
    """Yield the connectors and template rows of a document; record what is neither.

    `assume` is the type of bare configurations whose shape two connectors share.
    """
    items = document if isinstance(document, list) else [document]
    for number, item in enumerate(items):
        place = f"{source}[{number}]" if isinstance(document, list) else source
        yield from _recognize_item(item, place, ledger, assume)


def _recognize_item(item: Any, source: str, ledger: Ledger, assume: str | None) -> Iterator[Found]:
    if not isinstance(item, dict):
        ledger.leave_out(source, "the whole", "it is no JSON object", "give a connector's configuration or row")
    elif "connectorId" in item:
        yield from _of_row(item, source, ledger)
    elif "templateType" in item or "languageTag" in item:
        yield {**item, _SOURCE: source}
    elif isinstance(rows := item.get("templates"), list) and rows and _are_rows(rows):
        # The body of PUT /api/email-templates.
        for number, row in enumerate(rows):
            yield {**row, _SOURCE: f"{source}: templates[{number}]"}
    elif {"endpoint", "authorization"} >= set(item) and "endpoint" in item:
        ledger.note(source, _HTTP_CONNECTOR)
    else:
        type_ = _type_of(item)
        if type_ == _AMBIGUOUS:
            type_ = assume if assume in _AMBIGUOUS.split() else _by_key(item)
        if type_ is None:
            known = ", ".join(TYPES)
            ledger.leave_out(source, "the whole", "no email connector of Logto's has this shape", f"known are: {known}")
        else:
            yield Connector(source, type_, item)


_SOURCE: Final = "\0source"
"""A key that Logto's JSON does not have."""
_HTTP_CONNECTOR: Final = "this is Logto's HTTP email connector; it has nothing to import"
_AMBIGUOUS: Final = "sendgrid mailjunky"


def source_of(row: Mapping[str, Any]) -> str:
    """Return the source of a row."""
    return str(row[_SOURCE])


def _are_rows(rows: list[Any]) -> bool:
    return all(isinstance(row, dict) and "templateType" in row and "details" in row for row in rows)


def _of_row(row: dict[str, Any], source: str, ledger: Ledger) -> Iterator[Found]:
    """Yield the connector of a row of `/api/connectors`; social and SMS connectors are skipped."""
    id_, config = row["connectorId"], row.get("config")
    if isinstance(id_, str) and id_ in CONNECTORS:
        if isinstance(config, dict):
            yield Connector(source, CONNECTORS[id_], config)
        else:
            ledger.leave_out(source, "config", "it is no JSON object", "give the row as Logto's Management API has it")
    elif id_ == _HTTP:
        ledger.note(source, _HTTP_CONNECTOR)
    elif isinstance(id_, str) and id_ in _BUILT_IN:
        ledger.leave_out(
            source,
            "Logto's built-in email service",
            "it sends with Logto's own account and has no templates to import",
            "choose a provider; sender name, company and logo go to [brand]",
        )
    elif row.get("type", "Email") == "Email":
        ledger.leave_out(source, "connector", "this email connector is not known", f"known are: {', '.join(TYPES)}")


def _type_of(config: Mapping[str, Any]) -> str | None:
    """Return the type of a bare configuration, by the keys that its connector requires."""
    keys = config.keys()
    for required, type_ in _REQUIRED_KEYS:
        if required <= keys:
            return type_
    return None


_REQUIRED_KEYS: Final = (
    ({"deliveries"}, "mailgun"),
    ({"domain", "apiKey"}, "mailgun"),
    ({"serverToken"}, "postmark"),
    ({"accessKeyId", "accountName"}, "aliyun"),
    ({"accessKeyId", "region"}, "ses"),
    ({"apiKey", "sender"}, "smtp2go"),
    ({"apiKey", "fromEmail"}, _AMBIGUOUS),
    ({"host"}, "smtp"),
)


def _by_key(config: Mapping[str, Any]) -> str:
    """Distinguish SendGrid from MailJunky, whose configurations have the same keys, by the prefix of the API key."""
    key = config.get("apiKey")
    if isinstance(key, str) and key.startswith("SG."):
        return "sendgrid"
    if isinstance(key, str) and key.startswith(("mj_live_", "mj_test_")):
        return "mailjunky"
    return UNCERTAIN


UNCERTAIN: Final = "sendgrid-or-mailjunky"
"""The type of a configuration that could be either's; its templates can be imported nevertheless."""
