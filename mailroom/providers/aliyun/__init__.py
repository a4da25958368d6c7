"""Alibaba Cloud Direct Mail, SingleSendMail: alibabacloud.com/help/en/direct-mail/api-dm-2015-11-23-singlesendmail."""

from mailroom.providers.aliyun.direct_mail import Settings, connect

__all__ = ["Settings", "connect"]
