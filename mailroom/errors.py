"""The exceptions of Mailroom.

MailroomError
├── SettingsError           the settings have faults; all are listed
├── OutboxError
│   ├── CannotKeep          not stored: disk full, file locked or read-only; Logto gets a 503
│   └── OutboxInUse         another process serves from this file
├── LimitExceeded           too many codes, see [limits]; Logto gets a 429
├── SealBroken              a sealed column cannot be decrypted: wrong secret_key, or changed data
├── RenderingError          a template failed; the operator can correct it
│   └── MissingVariable     the request has no code or link, without which the mail is useless
├── ImportingError          the source cannot be read, or Logto does not return it
└── SendingError            a provider did not accept the mail; the kind decides what happens next
    ├── Rejected            the recipient's address does not work: stop
    ├── Misconfigured       our configuration (credentials, unverified sender, no credit): next provider, alert
    │   └── Declined        this provider refuses this mail, not for the recipient's address; it may accept others
    ├── Unavailable         retry, not before `retry_after`
    └── Uncertain           handed over, no response: it may have been sent
"""

from dataclasses import dataclass
from typing import ClassVar


class MailroomError(Exception):
    """Base of the errors below; the text says what the operator can do."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of the settings or of an operator's template."""

    path: str
    """Where: `providers.main.port`, a variable's name, or a file with its line."""
    problem: str
    """What is wrong and what to do; without the value if that may be a secret."""


class SettingsError(MailroomError):
    """The settings cannot be used."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(f"{fault.path}: {fault.problem}" for fault in faults))
        self.faults = faults


class OutboxError(MailroomError):
    """An operation of the outbox failed."""


class CannotKeep(OutboxError):
    """The message was not stored durably."""


class OutboxInUse(OutboxError):
    """Another process has locked the outbox."""


class LimitExceeded(MailroomError):
    """A limit of `[limits]` is reached, and nothing was stored."""

    def __init__(self, limit: str, *, retry_after: int) -> None:
        super().__init__(f"the limit limits.{limit} is reached")
        self.limit = limit
        """The name of its setting."""
        self.retry_after = retry_after
        """Seconds until it allows the next code, 1 or more."""


class SealBroken(MailroomError):
    """A sealed value cannot be decrypted with these keys."""


class RenderingError(MailroomError):
    """A template could not be rendered; the text names file and line, never a value."""


class MissingVariable(RenderingError):
    """The payload has no `code` or `link`, without which the mail is useless."""


class ImportingError(MailroomError):
    """An import failed; nothing was written."""


class SendingError(MailroomError):
    """A provider did not accept the mail. `diagnostic` is its own text, bounded, not yet masked."""

    outcome: ClassVar[str]
    """The recorded result of the attempt, a `mailroom.message.Outcome`."""

    def __init__(self, diagnostic: str, *, code: str = "", hint: str = "") -> None:
        super().__init__(diagnostic)
        self.diagnostic = diagnostic
        self.code = code
        """The provider's own error code (`550 5.1.1`, `MailFromDomainNotVerified`), if it gave one."""
        self.hint = hint
        """What the operator can do about it."""


class Rejected(SendingError):
    """Permanent: according to the provider the recipient's address does not work."""

    outcome = "rejected"


class Misconfigured(SendingError):
    """Our configuration is wrong: credentials, an unverified sender, exhausted credit. Not the recipient's address."""

    outcome = "misconfigured"


class Declined(Misconfigured):
    """This provider refuses this mail, and the recipient's address is not the reason. It may accept other mails."""


class Unavailable(SendingError):
    """Temporary: the provider did not accept the mail, and nothing was sent."""

    outcome = "unavailable"

    def __init__(
        self,
        diagnostic: str,
        *,
        code: str = "",
        hint: str = "",
        retry_after: float | None = None,
        is_throttled: bool = False,
        exceeds_concurrency: bool = False,
    ) -> None:
        super().__init__(diagnostic, code=code, hint=hint)
        self.retry_after = retry_after
        """Seconds until the provider accepts another attempt."""
        self.is_throttled = is_throttled
        """Whether the provider says that mails, whatever they are, come too fast."""
        self.exceeds_concurrency = exceeds_concurrency
        """Whether the provider says that there are too many connections at the same time."""


class Uncertain(SendingError):
    """The mail was handed over and there was no response: it may have been sent."""

    outcome = "uncertain"
