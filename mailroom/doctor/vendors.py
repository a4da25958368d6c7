"""What vendors want in the sender's DNS, by the provider's type or by the host that mail is relayed to.

From the vendors' setup pages; where a vendor makes up a selector for each account, none is listed.
"""

from dataclasses import dataclass
from typing import Final

from mailroom.doctor.dns import below


@dataclass(frozen=True, slots=True)
class Vendor:
    """A service that delivers for many senders, from addresses of its own."""

    name: str
    types: frozenset[str]
    hosts: tuple[str, ...]
    """Its SMTP hosts lie in these domains."""
    spf: tuple[str, ...] = ()
    """What its customers include, where it uses their domain as envelope sender: one of these."""
    selectors: tuple[str, ...] = ()
    where: str = ""
    """Where its console shows the selector."""
    keeps_envelope: bool = False
    """Whether the envelope sender stays ours; else it is the vendor's, or a subdomain for bounces."""


VENDORS: Final = (
    Vendor("Amazon SES", frozenset({"ses"}), ("amazonaws.com", "amazonaws.com.cn"), ("amazonses.com",),
           where="SES → Identities → DKIM (three CNAMEs, each of a selector)"),
    Vendor("Mailgun", frozenset({"mailgun"}), ("mailgun.org",), ("mailgun.org", "eu.mailgun.org"),
           where="Mailgun → Domains → DNS records"),
    Vendor("SendGrid", frozenset({"sendgrid"}), ("sendgrid.net",), ("sendgrid.net",), ("s1", "s2"),
           where="SendGrid → Settings → Sender Authentication"),
    Vendor("Postmark", frozenset({"postmark"}), ("postmarkapp.com",), ("spf.mtasv.net",),
           where="Postmark → Sender Signatures → DNS Settings"),
    Vendor("Aliyun Direct Mail", frozenset({"aliyun"}), ("aliyun.com", "aliyuncs.com"), ("spf1.dm.aliyun.com",),
           where="Direct Mail → Email Domains → Configure", keeps_envelope=True),
    Vendor("Resend", frozenset({"resend"}), ("resend.com",), ("amazonses.com",), ("resend",),
           where="Resend → Domains"),
    Vendor("Brevo", frozenset({"brevo"}), ("brevo.com", "sendinblue.com"), ("spf.brevo.com", "spf.sendinblue.com"),
           ("brevo1", "brevo2", "mail"), where="Brevo → Senders, Domains → Authenticate"),
    Vendor("Mailjet", frozenset({"mailjet"}), ("mailjet.com",), ("spf.mailjet.com",), ("mailjet",),
           where="Mailjet → Account settings → Domains"),
    Vendor("SMTP2GO", frozenset({"smtp2go"}), ("smtp2go.com", "smtpcorp.com"), ("spf.smtp2go.com",),
           where="SMTP2GO → Sending → Verified Senders"),
    Vendor("MailJunky", frozenset({"mailjunky"}), ("mailjunky.ai",), where="MailJunky → Domains"),
    Vendor("Google", frozenset(), ("gmail.com", "google.com"), ("_spf.google.com",), ("google",),
           where="Google Admin → Gmail → Authenticate email", keeps_envelope=True),
    Vendor("Microsoft 365", frozenset(), ("office365.com", "outlook.com"), ("spf.protection.outlook.com",),
           ("selector1", "selector2"), where="Defender → Email authentication → DKIM", keeps_envelope=True),
)  # fmt: skip


def vendor_of(type_name: str, host: str = "") -> Vendor | None:
    """Return who delivers, None for a relay of the operator's own or one that is not known."""
    for vendor in VENDORS:
        if type_name in vendor.types or (host and any(below(host, domain) for domain in vendor.hosts)):
            return vendor
    return None
