"""What the modules of providers share: the settings that all have, and the protocols that they implement."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Protocol, runtime_checkable

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from mailroom.address import mailbox
from mailroom.clock import Clock
from mailroom.message import Address, Email, Receipt
from mailroom.sealing import SecretStore

CODE_STEP_SECONDS: Final = 5.0
"""For so long a code waits at each step before it is handed over: to connect, to log in, to name the recipient."""
CODE_RESPONSE_SECONDS: Final = 15.0
"""For so long a code that was handed over waits for the response: a slow content filter is no failure."""


def _parse_mailbox(value: Any) -> Any:
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise ValueError("write a mailbox as Name <address>")  # noqa: TRY004 - pydantic collects ValueErrors
    return mailbox(value)


Mailbox = Annotated[Address, BeforeValidator(_parse_mailbox)]
"""A setting that is written `Name <address>`."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many mails in so many seconds."""

    count: int
    seconds: float


_RATE: Final = re.compile(r"([1-9][0-9]{0,8})/([smhd])", re.ASCII)
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _parse_rate(value: Any) -> Any:
    if isinstance(value, Rate):
        return value
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('write a whole number of mails and a unit of time: "14/s", "500/m", "1000/h" or "50000/d"')
    return Rate(int(match[1]), _SECONDS[match[2]])


RateSetting = Annotated[Rate, BeforeValidator(_parse_rate)]
"""A setting that is written `14/s`."""


class ProviderSettings(BaseModel):
    """The settings of every provider."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True
    )

    type: str
    sender: Mailbox | None = Field(None, alias="from", description="overrides the general `from`")
    concurrency: int = Field(10, ge=1, le=1000, description="maximum number of mails sent at the same time")
    timeout: float = Field(
        30,
        gt=0,
        le=100,
        description=f"maximum seconds for one mail; for a code also {CODE_STEP_SECONDS:g} for each step until it is "
        f"handed over (connection, login, recipient), and then {CODE_RESPONSE_SECONDS:g} for the response",
    )
    rate: RateSetting | None = Field(
        None,
        description="maximum number of mails within any second, minute (`m`), hour (`h`) or day (`d`), as `14/s`; "
        "more wait, codes go first; on PostgreSQL all processes keep to it together",
    )
    quota: RateSetting | None = Field(
        None,
        description="maximum number of accepted mails within such a time, as `50000/d`; when it is used up the next "
        "provider takes over until it renews; on PostgreSQL all processes keep to it together",
    )
    auto_submitted: bool = Field(
        default=True,
        description="whether mails have `Auto-Submitted` and `X-Auto-Response-Suppress`, which prevent out-of-office "
        "replies; helpdesks such as Zendesk and Jira suspend mail that has them",
    )

    def template_for(self, kind: str) -> str:  # noqa: ARG002 - for `TemplatesAtProvider`
        """Return the name of the provider's own template for a kind of mail; empty if it has none."""
        return ""

    def inexpressible(self, sender: Address, reply_to: Address | None) -> str:  # noqa: ARG002 - for subclasses
        """Return a sentence for the operator if the provider cannot send mails from these, else an empty text."""
        return ""

    @property
    def forwards(self) -> bool:
        """Whether the provider passes messages on unrendered, see `mailroom.message.unrendered`."""
        return False


class TemplatesAtProvider(ProviderSettings):
    """The settings of a provider that stores templates; its `send` then uses `Email.template_at_provider`.

    Such a mail is sent by the template's name with `Email.variables`, none of which is null or missing, and without
    subject and bodies. Sender, recipient, Reply-To, headers and idempotency key are sent as for any other mail.
    """

    templates: dict[str, str] = Field(
        {},
        description="kind of mail → the provider's own template, used instead of ours; `default` is for all others",
    )

    def template_for(self, kind: str) -> str:
        """Return the name of the provider's own template for a kind of mail; empty if it has none."""
        return self.templates.get(kind, self.templates.get("default", ""))


class Provider(Protocol):
    """A service that delivers mail."""

    async def send(self, email: Email) -> Receipt:
        """Hand one mail over, once.

        Raises Rejected, Misconfigured, Unavailable or Uncertain, with the provider's diagnostic, and nothing else;
        returns or raises within the settings' `timeout`. A code (`Email.is_code`) is handed over within that time, no
        step of which takes longer than `CODE_STEP_SECONDS`, and then has `CODE_RESPONSE_SECONDS`.
        """

    async def aclose(self) -> None:
        """Close its connections."""


@runtime_checkable
class Verifiable(Protocol):
    """A provider whose credentials `mailroom doctor` can check."""

    async def verify(self) -> str:
        """Check the credentials without sending a mail; return in a few words what works.

        Raises Rejected, Misconfigured, Unavailable or Uncertain like `send`, within the settings' `timeout`. It must
        need few permissions: a key that may only send is not wrong because it may not list domains.
        """


class MailCatcher(Protocol):
    """Where the `capture` provider stores mails instead of sending them."""

    async def keep(self, email: Email) -> None:
        """Store a mail. Raises CannotKeep."""


class NoCatcher:
    """A mail catcher for callers that send nothing by `capture`."""

    async def keep(self, email: Email) -> None:
        """Raise AssertionError."""
        raise AssertionError(email.id)


@dataclass(frozen=True, slots=True)
class ProviderContext:
    """What a provider may use beside its settings."""

    name: str
    """The provider's name in the settings."""
    clock: Clock
    catcher: MailCatcher
    secrets: SecretStore
