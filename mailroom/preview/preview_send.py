"""Sends a previewed mail to the operator through one of the configured providers, past the outbox."""

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Final

from msgspec.structs import replace

from mailroom.clock import Clock
from mailroom.config.overrides import Override, senders
from mailroom.errors import LimitExceeded
from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.samples import Sample, message
from mailroom.message import Payload, Receipt, new_id
from mailroom.outbox.limits import RateLimit, SlidingWindow
from mailroom.providers import connect
from mailroom.providers.base import MailCatcher, NoCatcher, ProviderContext, ProviderSettings
from mailroom.sealing import SecretStore

_CAPTURE: Final = "capture"


class PreviewSender:
    """Sends single mails, each through a new connection."""

    def __init__(
        self,
        settings: Mapping[str, ProviderSettings],
        *,
        clock: Clock,
        entropy: Callable[[int], bytes],
        secrets: SecretStore,
        catcher: MailCatcher | None = None,
        overrides: Sequence[Override] = (),
        limit: RateLimit | None = None,
    ) -> None:
        """Use these providers' settings, by name; `limit` is for all recipients together.

        Those that forward requests unrendered are left out, and without a `catcher` those of the type `capture`.
        """
        self._settings = {name: provider for name, provider in settings.items() if _can_send(provider, catcher)}
        self._clock = clock
        self._entropy = entropy
        self._secrets = secrets
        self._catcher = catcher
        self._overrides = overrides
        self._window = SlidingWindow(limit) if limit else None

    @property
    def providers(self) -> tuple[str, ...]:
        """The names of the providers, in the order of the settings."""
        return tuple(self._settings)

    async def send(
        self, context: LintContext, kind: str, language: str, payload: Payload, *, recipient: str, provider: str
    ) -> Receipt:
        """Send one mail. Raises LimitExceeded, RenderingError, Rejected, Misconfigured, Unavailable or Uncertain."""
        now = self._clock.now()
        if self._window and not self._window.take(now):
            raise LimitExceeded("recipient", retry_after=ceil(self._window.limit.seconds))
        sample = message(kind, Sample.FULL, language, payload, context.owner)
        request = replace(
            sample, id=new_id(now, self._entropy(10)), recipient=recipient, created_at=now, expires_at=now + 600
        )
        settings = self._settings[provider]
        sender, reply_to = senders(self._overrides, request, settings.sender or context.sender, context.reply_to)
        email = context.renderer.render(
            request, sender=sender, reply_to=reply_to, auto_submitted=settings.auto_submitted
        )
        connected = connect(
            settings, ProviderContext(provider, self._clock, self._catcher or NoCatcher(), self._secrets)
        )
        try:
            return await connected.send(email)
        finally:
            await connected.aclose()


def _can_send(settings: ProviderSettings, catcher: MailCatcher | None) -> bool:
    return not settings.forwards and (catcher is not None or settings.type != _CAPTURE)
