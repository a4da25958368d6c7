"""Examines a provider: the address that it sees, its credentials, and the sender's DNS records; and a PostgreSQL.

`examination` runs the checks. `sender` checks DNS records with the library `dnsauth`, which queries a `Resolver`.
`database_check` examines the outbox.
"""

from mailroom.doctor.check_results import CheckResult, Mark
from mailroom.doctor.database_check import check_database
from mailroom.doctor.dnsauth.resolver import IpAddress, SystemResolver
from mailroom.doctor.examination import Examination, ExaminationOptions, examine

__all__ = [
    "CheckResult",
    "Examination",
    "ExaminationOptions",
    "IpAddress",
    "Mark",
    "SystemResolver",
    "check_database",
    "examine",
]
