"""Examines each provider: the address it sees, its credentials, and what the DNS says about the sender.

`examination` leads through it; `sender` judges the DNS by `spf`, `dkim` and `dmarc`, which are functions of what a
`Resolver` answers.
"""

from mailroom.doctor.dns import IpAddress, Resolver, System
from mailroom.doctor.examination import Examination, Wishes, examine
from mailroom.doctor.findings import Finding, Mark

__all__ = ["Examination", "Finding", "IpAddress", "Mark", "Resolver", "System", "Wishes", "examine"]
