"""Converts Logto's templates, byte for byte, to files for the operator's templates folder."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from mailroom.importing import toml
from mailroom.importing.plan import Connector, Draft, Ledger, OverlayFile
from mailroom.importing.recognize import source_of
from mailroom.logto import MESSAGE_TYPES
from mailroom.text import printable

DEFAULT: Final = "default"
"""The tag of a template that has no language."""

LONGEST: Final = 256 * 1024
"""Characters; no longer mail is rendered."""

_TAG: Final = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8}){0,8}")
"""Tags that can be a file name."""
_HTML: Final = "text/html"
_TEXT: Final = "text/plain"


def drafts_of_connector(connector: Connector, ledger: Ledger) -> Iterator[Draft]:
    """Yield the connector's own templates, which have no language."""
    if connector.type == "mailgun":
        yield from _deliveries(connector, ledger)
    elif connector.type != "postmark":  # whose templates are stored at Postmark
        yield from _templates(connector, ledger)


def _templates(connector: Connector, ledger: Ledger) -> Iterator[Draft]:
    templates = connector.config.get("templates", [])
    if not isinstance(templates, list):
        ledger.leave_out(connector.source, "templates", "it is no list", "give the connector's JSON as Logto has it")
        return
    for number, template in enumerate(templates):
        source = f"{connector.source}: templates[{number}]"
        if isinstance(template, dict):
            content_type = template.get("contentType", template.get("type"))
            yield from _draft(source, template.get("usageType"), DEFAULT, template, content_type, ledger=ledger)
        else:
            ledger.leave_out(source, "template", "it is no JSON object", _AS_LOGTO)


def _deliveries(connector: Connector, ledger: Ledger) -> Iterator[Draft]:
    """Yield Mailgun's templates, by type; those that name a template stored at Mailgun become settings instead."""
    deliveries = connector.config.get("deliveries", {})
    if not isinstance(deliveries, dict):
        ledger.leave_out(connector.source, "deliveries", "it is no JSON object", _AS_LOGTO)
        return
    for kind, delivery in deliveries.items():
        source = f"{connector.source}: deliveries.{kind}"
        if not isinstance(delivery, dict):
            ledger.leave_out(source, "template", "it is no JSON object", _AS_LOGTO)
        elif "html" in delivery or "template" not in delivery:
            template = {**delivery, "content": delivery.get("html")}
            yield from _draft(source, kind, DEFAULT, template, None, ledger=ledger)


def draft_of_row(row: Mapping[str, Any], ledger: Ledger) -> Iterator[Draft]:
    """Yield the template of a row of `/api/email-templates`, if it can be imported."""
    source, details, tag = source_of(row), row.get("details"), row.get("languageTag")
    if not isinstance(details, dict):
        ledger.leave_out(source, "details", "it is no JSON object", _AS_LOGTO)
    elif not isinstance(tag, str) or not _TAG.fullmatch(tag) or tag.lower() == DEFAULT:
        ledger.leave_out(
            source, f"languageTag {_quote(tag)}", "this is no language tag", "write it as in BCP 47: pt-BR"
        )
    else:
        rest = {key: value for key, value in details.items() if key != "text"}
        yield from _draft(source, row.get("templateType"), tag, rest, details.get("contentType"), ledger=ledger)


_AS_LOGTO: Final = "use Logto's JSON"


def _draft(
    source: str, kind: Any, tag: str, template: Mapping[str, Any], content_type: Any, *, ledger: Ledger
) -> Iterator[Draft]:
    why = _find_fault(kind, template, content_type)
    if why:
        ledger.leave_out(source, f"template {_quote(kind)}", *why)
        return
    content = template["content"]
    plain = content_type == _TEXT
    yield Draft(
        source=source,
        kind=kind,
        tag=tag,
        subject=template["subject"],
        html=None if plain else content,
        text=content if plain else template.get("text"),
        content_type=content_type,
        reply_to=template.get("replyTo"),
        send_from=template.get("sendFrom"),
    )


def _find_fault(kind: Any, template: Mapping[str, Any], content_type: Any) -> tuple[str, str] | None:
    """Return why a template cannot be used and what to do, or None."""
    if kind == "Test":
        return "Logto sends no mail of this kind any more; it uses Generic", "nothing, if there is a Generic one"
    if kind not in MESSAGE_TYPES:
        return "Logto sends no mail of this kind", f"the kinds are: {', '.join(MESSAGE_TYPES)}"
    if content_type not in (None, _HTML, _TEXT):
        return f"its content type is neither {_HTML} nor {_TEXT}", "correct it in Logto, and import again"
    faults = (_find_field_fault(key, template.get(key), needed=needed) for key, needed in _FIELDS.items())
    return next(filter(None, faults), None)


_FIELDS: Final = {"subject": True, "content": True, "text": False, "replyTo": False, "sendFrom": False}
"""The fields of a template, and whether they are required."""


def _find_field_fault(key: str, value: Any, *, needed: bool) -> tuple[str, str] | None:
    if value is None or (value == "" and needed):
        missing = f"it has no {key}", "add one in Logto, and import again; until then Mailroom's own template is used"
        return missing if needed else None
    if not isinstance(value, str):
        return f"its {key} is no text", "correct it in Logto, and import again"
    if len(value) > LONGEST:
        return f"its {key} is longer than {LONGEST} characters", "shorten it; mail readers cut off far less"
    if not _is_encodable(value):
        return f"its {key} contains a lone surrogate", "correct it in Logto, and import again"
    return None


def _is_encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


_LONGEST_QUOTE: Final = 60


def _quote(value: Any) -> str:
    """Return foreign text for a report."""
    return printable(value[:_LONGEST_QUOTE]) if isinstance(value, str) else "?"


def files(drafts: Iterable[Draft], ledger: Ledger) -> tuple[OverlayFile, ...]:
    """Return the files for these templates; of two for one type and language the first is used, as in Logto."""
    first_drafts: dict[tuple[str, str], Draft] = {}
    for draft in drafts:
        # Lower case: on some file systems pt-BR and pt-br are the same name.
        first = first_drafts.setdefault((draft.kind, draft.tag.lower()), draft)
        if first is not draft and _content_of(first) != _content_of(draft):
            what = f"template {draft.kind} ({draft.tag})"
            why = f"there is another one for this kind and language in {first.source}"
            ledger.leave_out(draft.source, what, why, "import the one that you want alone")
    return tuple(file for draft in first_drafts.values() for file in _files_of(draft))


def _content_of(draft: Draft) -> tuple[Any, ...]:
    return draft.subject, draft.html, draft.text, draft.reply_to, draft.send_from


def _files_of(draft: Draft) -> Iterator[OverlayFile]:
    keys = {
        "subject": draft.subject,
        "content_type": draft.content_type,
        "reply_to": draft.reply_to,
        "send_from": draft.send_from,
    }
    described = toml.pairs({key: value for key, value in keys.items() if value is not None})
    yield OverlayFile(draft.kind, f"{draft.tag}.toml", described.encode())
    for ending, part in (("html", draft.html), ("txt", draft.text)):
        if part is not None:
            yield OverlayFile(draft.kind, f"{draft.tag}.{ending}", part.encode())
