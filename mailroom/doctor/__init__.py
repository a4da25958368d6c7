"""Examines a provider: the address that it sees, its credentials, and the sender's DNS records.

`examination` runs the checks. `sender` checks the DNS with `spf`, `dkim` and `dmarc`, which query a `Resolver`.
"""

from mailroom.doctor.dns import IpAddress, Resolver, System
from mailroom.doctor.examination import Examination, Wishes, examine
from mailroom.doctor.findings import Finding, Mark

__all__ = ["Examination", "Finding", "IpAddress", "Mark", "Resolver", "System", "Wishes", "examine"]
