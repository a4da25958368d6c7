"""DNS records that vendors require at the sender's domain, by the provider's type or by the relay's host name.

Sources: the cited pages of the vendors. Selectors that a vendor generates for each account are not listed.
"""

from dataclasses import dataclass
from typing import Final

from mailroom.doctor.dnsauth.resolver import is_within


@dataclass(frozen=True, slots=True)
class Vendor:
    """A service that delivers for many senders, from addresses of its own."""

    name: str
    types: frozenset[str]
    hosts: tuple[str, ...]
    """Domains of its SMTP hosts."""
    spf: tuple[str, ...] = ()
    """Domains that customers include in their SPF record if it uses their domain as envelope sender: one of these."""
    selectors: tuple[str, ...] = ()
    may_generate_selectors: bool = False
    """Whether an account may have a generated selector instead: then missing usual ones are no fault."""
    where: str = ""
    """Where its console shows the selector."""
    has_our_envelope: bool = False
    """Whether the envelope sender is in our From domain; else it is the vendor's, or in a subdomain for bounces."""
    region: str = ""
    """The only region that this entry applies to; empty: all."""


def _direct_mail(region: str) -> Vendor:
    """SMTP hosts: www.alibabacloud.com/help/en/direct-mail/smtp-endpoints, `.aliyun.com` is the older form.

    Selectors: …/what-is-dkim-and-how-to-configure-dkim-records. SPF: the domain's page in the console, which DescDomain
    (dm-2015-11-23) returns as `SpfRecordV2`; seen for all but Sydney and Virginia, which go by the same pattern.
    """
    at_home = region == "cn-hangzhou"
    return Vendor(
        "Aliyun Direct Mail",
        frozenset({"aliyun"}),
        ("smtpdm.aliyun.com",) if at_home else (f"smtpdm-{region}.aliyuncs.com", f"smtpdm-{region}.aliyun.com"),
        ("spf1.dm.aliyun.com",) if at_home else (f"spfdm-{region}.aliyun.com",),
        (f"aliyun-{region}",),
        where="Direct Mail → Email Domains → Configure",
        has_our_envelope=True,
        region=region,
    )


VENDORS: Final = (
    # docs.aws.amazon.com/ses/latest: DeveloperGuide/mail-from-set.html, dg/creating-identities.html
    Vendor("Amazon SES", frozenset({"ses"}), ("amazonaws.com", "amazonaws.com.cn"), ("amazonses.com",),
           where="SES → Identities → DKIM (three CNAMEs, each of a selector)"),
    # documentation.mailgun.com/docs/mailgun/user-manual: domains/domains-verify; api-key-mgmt/mg_security, "Automatic
    # Sender Security", names pdk1 and pdk2; the EU's console shows eu.mailgun.org
    Vendor("Mailgun", frozenset({"mailgun"}), ("mailgun.org",), ("mailgun.org", "eu.mailgun.org"), ("pdk1", "pdk2"),
           may_generate_selectors=True, where="Mailgun → Domains → DNS records"),
    # www.twilio.com/docs/sendgrid/ui/account-and-settings/how-to-set-up-domain-authentication
    Vendor("SendGrid", frozenset({"sendgrid"}), ("sendgrid.net",), ("sendgrid.net",), ("s1", "s2"),
           where="SendGrid → Settings → Sender Authentication"),
    # postmarkapp.com/support/article/1113-how-do-i-manage-domains-using-the-api: selectors are dates
    Vendor("Postmark", frozenset({"postmark"}), ("postmarkapp.com",), ("spf.mtasv.net",),
           where="Postmark → Sender Signatures → DNS Settings"),
    *map(_direct_mail, ("cn-hangzhou", "ap-southeast-1", "ap-southeast-2", "us-east-1", "eu-central-1")),
    # github.com/Domain-Connect/Templates/blob/master/resend.com.mail.json, its own; SPF belongs to the subdomain `send`
    # (resend.com/docs/dashboard/domains/custom-return-path)
    Vendor("Resend", frozenset({"resend"}), ("resend.com",), ("amazonses.com",), ("resend",),
           where="Resend → Domains"),
    # developers.brevo.com/docs/domain-authentication-and-verification has `mail` (TXT), its console brevo1 and brevo2
    # (CNAMEs to b1 and b2.….dkim.brevo.com); the envelope is sender-sib.com's but with a dedicated address
    Vendor("Brevo", frozenset({"brevo"}), ("brevo.com", "sendinblue.com"), ("spf.brevo.com", "spf.sendinblue.com"),
           ("brevo1", "brevo2", "mail"), where="Brevo → Senders, Domains → Authenticate"),
    # documentation.mailjet.com/hc/en-us/articles/360049641733; the envelope is bnc3.mailjet.com's
    Vendor("Mailjet", frozenset({"mailjet"}), ("mailjet.com",), ("spf.mailjet.com",), ("mailjet",),
           where="Mailjet → Account settings → Sender domains & addresses"),
    # support.smtp2go.com/hc/en-gb/articles/28543815517209: no SPF since 2019; selectors are s and the account's number
    Vendor("SMTP2GO", frozenset({"smtp2go"}), ("smtp2go.com", "smtpcorp.com"), ("spf.smtp2go.com",),
           where="SMTP2GO → Sending → Verified Senders"),
    # mailjunky.ai/docs says "verify your sending domain" and no more
    Vendor("MailJunky", frozenset({"mailjunky"}), ("mailjunky.ai",), where="MailJunky → Domains"),
    # SPF: support.google.com/a/answer/10684623; `google` unless the administrator wrote another: answer/174124
    Vendor("Google", frozenset(), ("gmail.com", "google.com"), ("_spf.google.com",), ("google",),
           where="Google Admin → Gmail → Authenticate email", has_our_envelope=True),
    # learn.microsoft.com/defender-office-365/email-authentication-dkim-configure: the same names for everybody
    Vendor("Microsoft 365", frozenset(), ("office365.com", "outlook.com"), ("spf.protection.outlook.com",),
           ("selector1", "selector2"), where="Defender → Email authentication → DKIM", has_our_envelope=True),
)  # fmt: skip


def vendor_of(type_name: str, host: str = "", region: str = "") -> Vendor | None:
    """Return the vendor that delivers; None for the operator's own or an unknown relay."""
    for vendor in VENDORS:
        if type_name in vendor.types and (not region or vendor.region in ("", region)):
            return vendor
        if host and any(is_within(host, domain) for domain in vendor.hosts):
            return vendor
    return None
