"""`[[overrides]]`: another sender, Reply-To or other providers for one application, organization or kind of mail."""

from collections.abc import Sequence
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mailroom.logto import INVITATION
from mailroom.message import Address, Message, id_in
from mailroom.providers import Mailbox


class Condition(BaseModel):
    """Which mails an override applies to: those that match all of its fields."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")

    application: str | None = Field(
        None, min_length=1, description="id of the application, as Logto's console shows it"
    )
    organization: str | None = Field(
        None, min_length=1, description="id of the organization; an invitation's `organization` may be that text itself"
    )
    kind: str | None = Field(
        None, min_length=1, description="kind of mail: `SignIn`, `OrganizationInvitation`, `Welcome`, …"
    )

    @model_validator(mode="after")
    def _check_not_empty(self) -> Self:
        if self.application is self.organization is self.kind is None:
            raise ValueError("name an application, an organization or a kind: without one it would match every mail")
        return self

    def matches(self, message: Message) -> bool:
        """Return whether a message matches all fields."""
        return (
            self.kind in (None, message.template)
            and self.application in (None, id_in(message.payload, "application"))
            and self.organization in (None, *_organizations(message))
        )

    def includes(self, other: "Condition") -> bool:
        """Return whether every message that matches the other condition matches this one."""
        return all(getattr(other, name) == value for name, value in self.model_dump(exclude_none=True).items())

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.model_dump(exclude_none=True).items())


def _organizations(message: Message) -> tuple[object, ...]:
    """Return what may be the id of a message's organization; in an invitation it may be a bare text."""
    organization = message.payload.get("organization")
    return (id_in(message.payload, "organization"), *([organization] if message.template == INVITATION else []))


class Override(BaseModel):
    """For one application, organization or kind of mail: who sends, and by which providers."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    when: Condition = Field(description="the mails that it is for; of several overrides that match the first is used")
    sender: Mailbox | None = Field(
        None,
        alias="from",
        description="From address of these mails, also with providers that have a `from` of their own",
    )
    reply_to: Mailbox | None = Field(None, description="Reply-To address of these mails")
    providers: tuple[str, ...] | None = Field(
        None, min_length=1, description="names of providers in order, instead of those of `routes`"
    )

    @model_validator(mode="after")
    def _check_not_empty(self) -> Self:
        if self.sender is None and self.reply_to is None and self.providers is None:
            raise ValueError("overrides nothing: set from, reply_to or providers")
        return self


def first_match(overrides: Sequence[Override], message: Message) -> Override | None:
    """Return the override that applies to a message."""
    return next((one for one in overrides if one.when.matches(message)), None)


def senders(
    overrides: Sequence[Override], message: Message, sender: Address, reply_to: Address | None
) -> tuple[Address, Address | None]:
    """Return From and Reply-To of a message; `sender` and `reply_to` are for messages without an override."""
    override = first_match(overrides, message)
    return (override and override.sender) or sender, (override and override.reply_to) or reply_to
