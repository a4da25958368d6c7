"""SMTP: a provider's submission endpoint, or a relay of your own."""

from mailroom.providers.smtp.smtp_provider import Settings, connect

__all__ = ["Settings", "connect"]
