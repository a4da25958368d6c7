"""Everything that Mailroom raises on purpose.

MailroomError
├── SettingsError           the settings have faults; all of them are listed
├── OutboxError
│   ├── CannotKeep          not durable: disk full, file locked or read-only; Logto gets a 503
│   └── OutboxInUse         another process serves from this file
├── SealBroken              a sealed column does not open: wrong secret_key, or tampered with
├── RenderingError          a template failed; the operator can mend it
│   └── MissingVariable     the request lacks what the mail exists for: its code or its link
├── ImportingError          what is to be imported cannot be read, or Logto does not give it
└── SendingError            a provider did not take the mail; the four kinds decide what happens next
    ├── Rejected            the recipient's address does not work: stop
    ├── Misconfigured       our fault (credentials, unverified sender, no credit): next provider, alert the operator
    │   └── Declined        this provider refuses this mail, and not for the recipient's address; it may take others
    ├── Unavailable         try again, not before `retry_after`
    └── Uncertain           handed over, no answer: it may have been sent
"""

from dataclasses import dataclass
from typing import ClassVar


class MailroomError(Exception):
    """Base of all errors below; the text tells the operator what to do next."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the settings."""

    path: str
    """Where: `providers.main.port`, or a variable's name."""
    problem: str
    """What is wrong and what to do, without the value where it may be a secret."""


class SettingsError(MailroomError):
    """The settings cannot be used."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(f"{fault.path}: {fault.problem}" for fault in faults))
        self.faults = faults


class OutboxError(MailroomError):
    """The outbox could not do what was asked."""


class CannotKeep(OutboxError):
    """The message is not durable, so nobody may be told that it is."""


class OutboxInUse(OutboxError):
    """Another process holds the outbox."""


class SealBroken(MailroomError):
    """A sealed value does not open with the keys at hand."""


class RenderingError(MailroomError):
    """A template could not be rendered; the text names file and line, never a value."""


class MissingVariable(RenderingError):
    """The payload lacks a variable without which the mail is worthless (`code`, `link`)."""


class ImportingError(MailroomError):
    """What is to be imported cannot be had; nothing was written."""


class SendingError(MailroomError):
    """A provider did not take the mail. `words` are the provider's own, bounded, not yet masked."""

    outcome: ClassVar[str]
    """How the attempt is recorded; one of `mailroom.message.Outcome`."""

    def __init__(self, words: str, *, code: str = "", hint: str = "") -> None:
        super().__init__(words)
        self.words = words
        self.code = code
        """The provider's own error code (`550 5.1.1`, `MailFromDomainNotVerified`), if it gave one."""
        self.hint = hint
        """What the operator can do about it, in our own words."""


class Rejected(SendingError):
    """Permanent: the provider says that the recipient's address does not work."""

    outcome = "rejected"


class Misconfigured(SendingError):
    """Ours to mend: credentials, an unverified sender, exhausted credit. Blames no recipient."""

    outcome = "misconfigured"


class Declined(Misconfigured):
    """This provider refuses this mail, and the recipient's address is not the reason. It may accept other mails."""


class Unavailable(SendingError):
    """Temporary: the provider did not take the mail, and nothing was sent."""

    outcome = "unavailable"

    def __init__(self, words: str, *, code: str = "", hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(words, code=code, hint=hint)
        self.retry_after = retry_after
        """Seconds from now before which the provider does not want to be asked again."""


class Uncertain(SendingError):
    """The mail was handed over and no answer came: it may or may not have been sent."""

    outcome = "uncertain"
