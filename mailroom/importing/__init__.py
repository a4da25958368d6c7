"""Imports Logto's email configuration: connectors become providers, templates become overlay files.

`reading` recognizes the JSON, `overlay` and `connectors` convert it, `configuration` merges it with the existing
settings; none of them does I/O. `folder` and `keeping` write files, `logto` queries a running Logto.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from mailroom.address import mailbox
from mailroom.importing import connectors, overlay_files
from mailroom.importing.connectors import Schemas
from mailroom.importing.plan import Connector, Draft, Ledger, Plan, ProviderPlan
from mailroom.importing.recognize import recognize
from mailroom.logto import GENERIC, INVITATION

__all__ = ["plan"]


def plan(
    documents: Iterable[tuple[str, Any]], *, schemas: Schemas, name: str = "main", assume: str | None = None
) -> Plan:
    """Convert these documents, pairs of a source and its JSON.

    The first connector's provider is called `name`, others by their type. `assume` is the type of a bare configuration
    that could be SendGrid's or MailJunky's.
    """
    ledger = Ledger()
    found = [item for source, document in documents for item in recognize(document, source, ledger, assume=assume)]
    known = [item for item in found if isinstance(item, Connector)]
    rows = [item for item in found if not isinstance(item, Connector)]
    drafts: list[Draft] = []
    for connector in known:
        own = list(overlay_files.drafts_of_connector(connector, ledger))
        _note_invitation(connector, own, ledger)
        drafts += own
    for row in rows:
        drafts += overlay_files.draft_of_row(row, ledger)
    providers = tuple(_providers(known, name, schemas, ledger))
    _note_senders(drafts, providers, ledger)
    return Plan(
        files=overlay_files.files(drafts, ledger),
        providers=providers,
        reply_to=_reply_to(known, ledger),
        left_out=tuple(ledger.left_out),
        notes=tuple(ledger.notes),
    )


def _providers(found: list[Connector], name: str, schemas: Schemas, ledger: Ledger) -> Iterator[ProviderPlan]:
    taken: set[str] = set()
    for number, connector in enumerate(found):
        preferred = connector.type if number else name
        called = next(free for free in (preferred, *(f"{preferred}-{n}" for n in range(2, 1000))) if free not in taken)
        provider = connectors.provider(connector, called, schemas, ledger)
        if provider is not None:
            taken.add(called)
            yield provider


def _reply_to(found: list[Connector], ledger: Ledger) -> str | None:
    """Return the reply address of the SMTP connector (others have none), for the general `reply_to`."""
    reply_to: str | None = None
    for connector in found:
        address = connector.config.get("replyTo") if connector.type == "smtp" else None
        if not address or address == reply_to:
            continue
        if reply_to is not None:
            ledger.leave_out(connector.source, "replyTo", f"there is already one: {reply_to}", "set the one you want")
            continue
        try:
            mailbox(address if isinstance(address, str) and address.isprintable() else "")
        except ValueError as error:
            ledger.leave_out(connector.source, "replyTo", f"Mailroom would refuse it: {error}", "set reply_to yourself")
        else:
            reply_to = str(address)
    return reply_to


def _note_invitation(connector: Connector, drafts: list[Draft], ledger: Ledger) -> None:
    """Note that invitations change: Logto falls back to Generic for them, Mailroom does not."""
    kinds = {draft.kind for draft in drafts}
    if GENERIC in kinds and INVITATION not in kinds:
        ledger.note(
            connector.source,
            f"it has no template for {INVITATION}: Logto writes invitations with the one for Generic, which has no "
            "link; Mailroom with its own",
        )


def _note_senders(drafts: list[Draft], providers: tuple[ProviderPlan, ...], ledger: Ledger) -> None:
    """Note the domains of `sendFrom` other than the providers': the settings must allow them."""
    own = {_domain(provider.sender) for provider in providers}
    for domain in sorted({_domain(draft.send_from) for draft in drafts} - own - {""}):
        source = next(draft.source for draft in drafts if _domain(draft.send_from) == domain)
        ledger.note(source, f"sendFrom is of the domain {domain}: it is used if sender_domains allows that domain")


def _domain(sender: str | None) -> str:
    try:
        return mailbox(sender or "").email.rpartition("@")[2].lower()
    except ValueError:
        return ""  # a display name, or made of placeholders
