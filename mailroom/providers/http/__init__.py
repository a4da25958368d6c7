"""Any service that takes mails by a POST: as JSON, as a form, or as the request that Logto itself would make."""

from mailroom.providers.http.generic import Settings, connect

__all__ = ["Settings", "connect"]
