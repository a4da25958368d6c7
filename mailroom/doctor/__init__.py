"""Examines a provider: the address that it sees, its credentials, and the sender's DNS records.

`examination` runs the checks. `sender` checks the DNS with `spf`, `dkim` and `dmarc`, which query a `Resolver`.
"""

from mailroom.doctor.dnsauth.resolver import IpAddress, Resolver, SystemResolver
from mailroom.doctor.examination import Examination, ExaminationOptions, examine
from mailroom.doctor.findings import Finding, Mark

__all__ = ["Examination", "ExaminationOptions", "Finding", "IpAddress", "Mark", "Resolver", "SystemResolver", "examine"]
