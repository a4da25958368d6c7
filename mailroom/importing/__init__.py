"""Imports Logto's email configuration: connectors become providers, templates become overlay files.

    log = ImportLog()
    plan = make_plan([("connector.json", document)], log)

`recognize` finds connectors and templates in the JSON, `connectors` and `overlay_files` convert them, `configuration`
merges the result with the existing settings; none of them does I/O. `folder` and `setting_files` write files,
`management_api` fetches the JSON from a running Logto.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from mailroom.address import mailbox
from mailroom.importing import connectors, overlay_files
from mailroom.importing.plan import Connector, ImportLog, LogtoTemplate, Plan, ProviderPlan, TemplateRow
from mailroom.importing.recognize import recognize
from mailroom.logto import GENERIC, INVITATION

__all__ = ["make_plan"]


def make_plan(
    documents: Iterable[tuple[str, Any]], log: ImportLog, *, name: str = "main", assume: str | None = None
) -> Plan:
    """Convert these documents, pairs of a source and its JSON; log what is left out.

    The first connector's provider is called `name`, others by their type. `assume` is the type of a bare configuration
    that could be SendGrid's or MailJunky's.
    """
    items = [item for source, document in documents for item in recognize(document, source, log, assume=assume)]
    known = [item for item in items if isinstance(item, Connector)]
    templates: list[LogtoTemplate] = []
    for connector in known:
        own = list(overlay_files.templates_of_connector(connector, log))
        _note_invitation(connector, own, log)
        templates += own
    for row in items:
        if isinstance(row, TemplateRow):
            templates += overlay_files.template_of_row(row, log)
    providers = tuple(_providers(known, name, log))
    _note_senders(templates, providers, log)
    return Plan(overlay_files.files(templates, log), providers, _reply_to(known, log))


def _providers(found: list[Connector], name: str, log: ImportLog) -> Iterator[ProviderPlan]:
    taken: set[str] = set()
    for number, connector in enumerate(found):
        preferred = connector.type if number else name
        called = next(free for free in (preferred, *(f"{preferred}-{n}" for n in range(2, 1000))) if free not in taken)
        provider = connectors.provider(connector, called, log)
        if provider is not None:
            taken.add(called)
            yield provider


def _reply_to(found: list[Connector], log: ImportLog) -> str | None:
    """Return the reply address of the SMTP connector (others have none), for the general `reply_to`."""
    reply_to: str | None = None
    for connector in found:
        address = connector.config.get("replyTo") if connector.type == "smtp" else None
        if not address or address == reply_to:
            continue
        if reply_to is not None:
            log.leave_out(connector.source, "replyTo", f"there is already one: {reply_to}", "set the one you want")
            continue
        try:
            mailbox(address if isinstance(address, str) and address.isprintable() else "")
        except ValueError as error:
            log.leave_out(connector.source, "replyTo", f"Mailroom would refuse it: {error}", "set reply_to yourself")
        else:
            reply_to = str(address)
    return reply_to


def _note_invitation(connector: Connector, templates: list[LogtoTemplate], log: ImportLog) -> None:
    """Note that invitations change: Logto falls back to Generic for them, Mailroom does not."""
    kinds = {template.kind for template in templates}
    if GENERIC in kinds and INVITATION not in kinds:
        log.note(
            connector.source,
            f"it has no template for {INVITATION}: Logto writes invitations with the one for Generic, which has no "
            "link; Mailroom with its own",
        )


def _note_senders(templates: list[LogtoTemplate], providers: tuple[ProviderPlan, ...], log: ImportLog) -> None:
    """Note the domains of `sendFrom` other than the providers': the settings must allow them."""
    sources: dict[str, str] = {}
    for template in templates:
        sources.setdefault(_domain(template.send_from), template.source)
    for domain in sorted(sources.keys() - {_domain(provider.sender) for provider in providers} - {""}):
        log.note(
            sources[domain], f"sendFrom is of the domain {domain}: it is used if sender_domains allows that domain"
        )


def _domain(sender: str | None) -> str:
    try:
        return mailbox(sender or "").email.rpartition("@")[2].lower()
    except ValueError:
        return ""  # a display name, or made of placeholders
