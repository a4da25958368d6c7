"""Recognizes Logto's JSON: a connector's configuration, a connector's row, or email templates."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn

from mailroom.errors import ImportingError
from mailroom.importing.plan import Connector, ImportLog, TemplateRow

LARGEST: Final = 10 * 1024 * 1024
"""Octets of one document."""

UNCERTAIN: Final = "sendgrid-or-mailjunky"
"""The type of a configuration that could be either's; its templates can be imported nevertheless."""

_CONNECTORS: Final = {
    "simple-mail-transfer-protocol": "smtp",
    "sendgrid-email-service": "sendgrid",
    "aws-ses-mail": "ses",
    "mailgun-email": "mailgun",
    "aliyun-direct-mail": "aliyun",
    "postmark-mail": "postmark",
    "smtp2go-email-service": "smtp2go",
    "mailjunky-email-service": "mailjunky",
}
"""Logto's `connectorId` → our provider's type (the packages' own metadata, @logto/connector-…)."""

_REQUIRED_KEYS: Final = (
    ({"deliveries"}, "mailgun"),
    ({"domain", "apiKey"}, "mailgun"),
    ({"serverToken"}, "postmark"),
    ({"accessKeyId", "accountName"}, "aliyun"),
    ({"accessKeyId", "region"}, "ses"),
    ({"apiKey", "sender"}, "smtp2go"),
    ({"apiKey", "fromEmail"}, UNCERTAIN),
    ({"host"}, "smtp"),
)
"""The keys that a connector requires, and its type; the first match counts."""

_API_KEY_PREFIXES: Final = {"SG.": "sendgrid", "mj_live_": "mailjunky", "mj_test_": "mailjunky"}
_KNOWN: Final = f"known are: {', '.join(sorted(_CONNECTORS.values()))}"
_HTTP_CONNECTOR: Final = "this is Logto's HTTP email connector; it has nothing to import"


Item = Connector | TemplateRow


def decode(raw: bytes, source: str) -> Any:
    """Parse JSON. Raises ImportingError, which names the source, if it is too large, too deep, or not JSON."""
    if len(raw) > LARGEST:
        raise ImportingError(f"{source} is larger than {LARGEST // 1024 // 1024} MiB; no Logto writes that")
    try:
        return json.loads(raw.decode("utf-8-sig"), parse_constant=_reject_constant)
    except UnicodeDecodeError:
        raise ImportingError(f"{source} is not UTF-8 text") from None
    except RecursionError:
        raise ImportingError(f"{source} is nested too deeply") from None
    except ValueError as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise ImportingError(f"{source} is not JSON{where}") from None


def _reject_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")


def recognize(document: Any, source: str, log: ImportLog, *, assume: str | None = None) -> Iterator[Item]:
    """Yield the connectors and template rows of a document; log what is neither.

    `assume` is the type of bare configurations whose shape two connectors share.
    """
    if not isinstance(document, list):
        yield from _recognize_item(document, source, log, assume)
        return
    for number, item in enumerate(document):
        yield from _recognize_item(item, f"{source}[{number}]", log, assume)


def _recognize_item(item: Any, source: str, log: ImportLog, assume: str | None) -> Iterator[Item]:
    if not isinstance(item, dict):
        log.leave_out(source, "the whole", "it is no JSON object", "give a connector's configuration or row")
    elif "connectorId" in item:
        yield from _connector_of_row(item, source, log)
    elif "templateType" in item or "languageTag" in item:
        yield TemplateRow(source, item)
    elif isinstance(rows := item.get("templates"), list) and rows and all(map(_is_template_row, rows)):
        # The body of PUT /api/email-templates.
        for number, row in enumerate(rows):
            yield TemplateRow(f"{source}: templates[{number}]", row)
    elif {"endpoint"} <= item.keys() <= {"endpoint", "authorization"}:
        log.note(source, _HTTP_CONNECTOR)
    elif type_ := _type_of(item, assume):
        yield Connector(source, type_, item)
    else:
        log.leave_out(source, "the whole", "no email connector of Logto's has this shape", _KNOWN)


def _is_template_row(row: Any) -> bool:
    return isinstance(row, dict) and {"templateType", "details"} <= row.keys()


def _connector_of_row(row: dict[str, Any], source: str, log: ImportLog) -> Iterator[Connector]:
    """Yield the connector of a row of `/api/connectors`; social and SMS connectors are skipped."""
    id_, config = str(row["connectorId"]), row.get("config")
    if id_ in _CONNECTORS:
        if isinstance(config, dict):
            yield Connector(source, _CONNECTORS[id_], config)
        else:
            log.leave_out(source, "config", "it is no JSON object", "give the row as Logto's Management API has it")
    elif id_ == "http-email":
        log.note(source, _HTTP_CONNECTOR)
    elif id_ in ("logto-email", "logto-email-service"):
        log.leave_out(
            source,
            "Logto's built-in email service",
            "it sends with Logto's own account and has no templates to import",
            "choose a provider; sender name, company and logo go to [brand]",
        )
    elif row.get("type", "Email") == "Email":
        log.leave_out(source, "connector", "this email connector is not known", _KNOWN)


def _type_of(config: Mapping[str, Any], assume: str | None) -> str | None:
    """Return the type of a bare configuration.

    SendGrid's and MailJunky's have the same keys: `assume` distinguishes them, else the prefix of the API key.
    """
    type_ = next((type_ for required, type_ in _REQUIRED_KEYS if required <= config.keys()), None)
    if type_ != UNCERTAIN:
        return type_
    key = str(config["apiKey"])
    return assume or next((name for prefix, name in _API_KEY_PREFIXES.items() if key.startswith(prefix)), UNCERTAIN)
