"""Amazon SES, API v2: docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html."""

from mailroom.providers.ses.ses_provider import Settings, connect

__all__ = ["Settings", "connect"]
