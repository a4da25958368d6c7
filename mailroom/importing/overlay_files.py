"""Converts Logto's templates, byte for byte, to files for the operator's templates folder."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from mailroom.config import toml
from mailroom.importing.plan import Connector, ImportLog, LogtoTemplate, OverlayFile, TemplateRow
from mailroom.logto import MESSAGE_TYPES

LONGEST: Final = 256 * 1024
"""Characters; no longer mail is rendered."""

_DEFAULT: Final = "default"
"""The tag of a template that has no language."""
_TAG: Final = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8}){0,8}")
"""Tags that can be a file name."""
_HTML: Final = "text/html"
_TEXT: Final = "text/plain"
_FIELDS: Final = {"subject": True, "content": True, "text": False, "replyTo": False, "sendFrom": False}
"""The fields of a template, and whether they are required."""
_LONGEST_QUOTE: Final = 60
_USE_LOGTO: Final = "use Logto's JSON"
_CORRECT: Final = "correct it in Logto, and import again"


def templates_of_connector(connector: Connector, log: ImportLog) -> Iterator[LogtoTemplate]:
    """Yield the connector's own templates, which have no language."""
    if connector.type == "mailgun":
        yield from _deliveries(connector, log)
    elif connector.type != "postmark":  # whose templates are stored at Postmark
        yield from _templates(connector, log)


def _templates(connector: Connector, log: ImportLog) -> Iterator[LogtoTemplate]:
    templates = connector.config.get("templates", [])
    if not isinstance(templates, list):
        log.leave_out(connector.source, "templates", "it is no list", "give the connector's JSON as Logto has it")
        return
    for number, template in enumerate(templates):
        source = f"{connector.source}: templates[{number}]"
        if isinstance(template, dict):
            content_type = template.get("contentType", template.get("type"))
            yield from _template(source, template.get("usageType"), _DEFAULT, template, content_type, log=log)
        else:
            log.leave_out(source, "template", "it is no JSON object", _USE_LOGTO)


def _deliveries(connector: Connector, log: ImportLog) -> Iterator[LogtoTemplate]:
    """Yield Mailgun's templates, by type; those that name a template stored at Mailgun become settings instead."""
    deliveries = connector.config.get("deliveries", {})
    if not isinstance(deliveries, dict):
        log.leave_out(connector.source, "deliveries", "it is no JSON object", _USE_LOGTO)
        return
    for kind, delivery in deliveries.items():
        source = f"{connector.source}: deliveries.{kind}"
        if not isinstance(delivery, dict):
            log.leave_out(source, "template", "it is no JSON object", _USE_LOGTO)
        elif "html" in delivery or "template" not in delivery:
            yield from _template(source, kind, _DEFAULT, {**delivery, "content": delivery.get("html")}, None, log=log)


def template_of_row(row: TemplateRow, log: ImportLog) -> Iterator[LogtoTemplate]:
    """Yield the template of a row of `/api/email-templates`, if it can be imported."""
    details, tag = row.columns.get("details"), row.columns.get("languageTag")
    if not isinstance(details, dict):
        log.leave_out(row.source, "details", "it is no JSON object", _USE_LOGTO)
    elif not isinstance(tag, str) or not _TAG.fullmatch(tag) or tag.lower() == _DEFAULT:
        what = f"languageTag {_quote(tag)}"
        log.leave_out(row.source, what, "this is no language tag", "write it as in BCP 47: pt-BR")
    else:
        kind, content_type = row.columns.get("templateType"), details.get("contentType")
        yield from _template(row.source, kind, tag, {**details, "text": None}, content_type, log=log)


def _template(
    source: str, kind: Any, tag: str, fields: Mapping[str, Any], content_type: Any, *, log: ImportLog
) -> Iterator[LogtoTemplate]:
    fault = _find_fault(kind, fields, content_type)
    if fault:
        log.leave_out(source, f"template {_quote(kind)}", *fault)
        return
    content = fields["content"]
    plain = content_type == _TEXT
    yield LogtoTemplate(
        source=source,
        kind=kind,
        tag=tag,
        subject=fields["subject"],
        html=None if plain else content,
        text=content if plain else fields.get("text"),
        content_type=content_type,
        reply_to=fields.get("replyTo"),
        send_from=fields.get("sendFrom"),
    )


def _find_fault(kind: Any, fields: Mapping[str, Any], content_type: Any) -> tuple[str, str] | None:
    """Return why a template cannot be used and what to do, or None."""
    if kind == "Test":
        return "Logto sends no mail of this kind any more; it uses Generic", "nothing, if there is a Generic one"
    if kind not in MESSAGE_TYPES:
        return "Logto sends no mail of this kind", f"the kinds are: {', '.join(MESSAGE_TYPES)}"
    if content_type not in (None, _HTML, _TEXT):
        return f"its content type is neither {_HTML} nor {_TEXT}", _CORRECT
    faults = (_find_field_fault(key, fields.get(key), is_required=required) for key, required in _FIELDS.items())
    return next(filter(None, faults), None)


def _find_field_fault(key: str, value: Any, *, is_required: bool) -> tuple[str, str] | None:
    if is_required and value in (None, ""):
        return f"it has no {key}", "add one in Logto, and import again; until then Mailroom's own template is used"
    if value is None:
        return None
    if not isinstance(value, str):
        return f"its {key} is no text", _CORRECT
    if len(value) > LONGEST:
        return f"its {key} is longer than {LONGEST} characters", "shorten it; mail readers cut off far less"
    if any("\ud800" <= char <= "\udfff" for char in value):
        return f"its {key} contains a lone surrogate", _CORRECT
    return None


def _quote(value: Any) -> str:
    return value[:_LONGEST_QUOTE] if isinstance(value, str) else "?"


def files(templates: Iterable[LogtoTemplate], log: ImportLog) -> tuple[OverlayFile, ...]:
    """Return the files for these templates; of two for one type and language the first is used, as in Logto."""
    chosen: dict[tuple[str, str], LogtoTemplate] = {}
    for template in templates:
        # Lower case: on some file systems pt-BR and pt-br are the same name.
        first = chosen.setdefault((template.kind, template.tag.lower()), template)
        if _content_of(first) != _content_of(template):
            what = f"template {template.kind} ({template.tag})"
            why = f"there is another one for this kind and language in {first.source}"
            log.leave_out(template.source, what, why, "import the one that you want alone")
    return tuple(file for template in chosen.values() for file in _files_of(template))


def _content_of(template: LogtoTemplate) -> tuple[str | None, ...]:
    return template.subject, template.html, template.text, template.reply_to, template.send_from


def _files_of(template: LogtoTemplate) -> Iterator[OverlayFile]:
    keys = {
        "subject": template.subject,
        "content_type": template.content_type,
        "reply_to": template.reply_to,
        "send_from": template.send_from,
    }
    described = toml.pairs({key: value for key, value in keys.items() if value is not None})
    yield OverlayFile(template.kind, f"{template.tag}.toml", described.encode())
    for ending, part in (("html", template.html), ("txt", template.text)):
        if part is not None:
            yield OverlayFile(template.kind, f"{template.tag}.{ending}", part.encode())
