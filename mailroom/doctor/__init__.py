"""Examines a provider: the address that it sees, its credentials, and the sender's DNS records.

`examination` runs the checks. `sender` checks DNS records with the library `dnsauth`, which queries a `Resolver`.
"""

from mailroom.doctor.check_results import CheckResult, Mark
from mailroom.doctor.dnsauth.resolver import IpAddress, SystemResolver
from mailroom.doctor.examination import Examination, ExaminationOptions, examine

__all__ = ["CheckResult", "Examination", "ExaminationOptions", "IpAddress", "Mark", "SystemResolver", "examine"]
