"""Classifies refusals: one table for SMTP replies and for the diagnostics of HTTP APIs; the first row that matches.

    raise classify(Command.RCPT, 550, "5.1.1", text).error(text, code="550 5.1.1")

A refusal is final (`Rejected`) only if it is about the recipient's address. After any other the next provider is tried;
without one the message is held (`Misconfigured`, `Declined`) or tried again (`Unavailable`), and the row's hint says
what the operator can change. `source` is the RFC or where the reply was seen: `repository#number` is a GitHub issue.
"""

import re
from dataclasses import dataclass
from typing import Final

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable
from mailroom.smtpclient import Command

_AUTH: Final = frozenset({Command.AUTH})
_EHLO: Final = frozenset({Command.EHLO})
_BEFORE_MAIL: Final = frozenset({Command.GREETING, Command.EHLO, Command.STARTTLS, Command.AUTH})
_FROM_MAIL: Final = frozenset({Command.MAIL, Command.RCPT, Command.DATA, Command.CONTENT})
_AFTER_MAIL: Final = _FROM_MAIL - {Command.MAIL}

QUOTA_WAIT_SECONDS: Final = 300.0
"""Wait before the next attempt by a provider whose quota is used up."""

_CREDENTIALS: Final = "check username, password and tls of this provider"
_HELO: Final = "set helo_name of this provider to a full host name that the DNS knows"
_SENDER: Final = (
    "`from` must be an address that this login may send from: verify it in the provider's console, or change `from`"
)
_ACCOUNT: Final = "the account cannot send: look at its state in the provider's console"
_QUOTA: Final = "the account's quota is used up: raise it in the provider's console, or add a second provider"
_OUR_IP: Final = "allow our IP address in the provider's console, or set local_address or proxy to one that is allowed"
_TOO_FAST: Final = "mails come too fast for this provider: set `rate` to what it allows"
_GREYLISTED: Final = "the recipient's server takes a mail only at its second try"
TOO_LARGE: Final = "the mail is too large for this provider: make the template smaller, or add another provider"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: it matches if all its conditions hold."""

    kind: type[SendingError]
    source: str
    codes: str = "..."
    """Pattern of the reply code: `5..`, `53[05]`."""
    enhanced: str = ""
    """Pattern of the enhanced status code (RFC 3463). Beside a `text`, one of the two must match."""
    text: str = ""
    """Pattern to search in the text, codes included; case does not matter."""
    commands: frozenset[Command] = frozenset(Command)
    hint: str = ""
    """What the operator can do."""
    wait_seconds: float | None = None
    """Wait before the next attempt, of an `Unavailable`."""
    is_throttled: bool = False
    """Whether an `Unavailable` says that mails come too fast."""
    exceeds_concurrency: bool = False
    """Whether an `Unavailable` says that there are too many connections at the same time."""

    def matches(self, command: Command, code: str, enhanced: str, text: str) -> bool:
        """Return whether this row applies to a reply."""
        return (
            command in self.commands
            and bool(re.fullmatch(self.codes, code))
            and (
                not (self.enhanced or self.text)
                or bool(self.enhanced and re.fullmatch(self.enhanced, enhanced))
                or bool(self.text and re.search(self.text, text, re.IGNORECASE))
            )
        )

    def error(self, diagnostic: str, *, code: str) -> SendingError:
        """Return the error for a reply to which this row applies."""
        if issubclass(self.kind, Unavailable):
            return self.kind(
                diagnostic,
                code=code,
                hint=self.hint,
                retry_after=self.wait_seconds,
                is_throttled=self.is_throttled,
                exceeds_concurrency=self.exceeds_concurrency,
            )
        return self.kind(diagnostic, code=code, hint=self.hint)


ROWS: Final = (
    # too many connections
    Row(Misconfigured, "RFC 4954 §6: a password transition is needed", "432", commands=_AUTH, hint=_CREDENTIALS),
    Row(
        Unavailable,
        "Microsoft 365 `432 4.3.2`: fastapi-mail#75, nodemailer#1613; Postfix anvil and SocketLabs `421`",
        "4..",
        text=r"^432 |concurrent connections?|concurrency limit|too many (concurrent )?(smtp )?(connections|sessions)",
        hint="set `concurrency` of this provider to what its vendor allows",
        is_throttled=True,
        exceeds_concurrency=True,
    ),
    # the connection ends, whatever the command was
    Row(Unavailable, "Google: zitadel#4477, authelia#1146", "421", commands=_EHLO, hint=_HELO),
    Row(Unavailable, "RFC 5321 §3.8", "421", is_throttled=True),
    # codes with a meaning of the vendor's own
    Row(Misconfigured, "Aliyun: MAIL FROM is not the login; permanent although 4xx", "436", hint=_SENDER),
    Row(Rejected, "Aliyun: 559 invalid recipient, 563 on its suppression list", "559|563", commands=_AFTER_MAIL),
    Row(Misconfigured, "SendGrid: no credit, `451` too", "[45]..", text=r"credits? exceeded", hint=_ACCOUNT),
    Row(Misconfigured, "Brevo `525 5.7.1`", "5..", text=r"un(authori|recogni)[sz]ed ip( address)?\b", hint=_OUR_IP),
    Row(
        Unavailable,
        "Aliyun `554 Reject by behaviour spam…: too frequently sending`",
        "5..",
        text=r"too frequent",
        hint=_TOO_FAST,
        wait_seconds=60,
        is_throttled=True,
    ),
    # our name in EHLO
    Row(
        Misconfigured,
        "Postfix: watchtower#572 (RCPT)",
        "5..",
        text=r"\b(helo|ehlo)\b.*(rejected|invalid|bad|fully.qualified|not found)|bad (helo|ehlo)|invalid (helo|ehlo)",
        hint=_HELO,
    ),
    Row(Unavailable, "Postfix: `450 4.7.1 Helo command rejected`", "4..", text=r"\b(helo|ehlo) ", hint=_HELO),
    # quotas of the account; not the recipient's mailbox
    Row(
        Misconfigured,
        "Microsoft 365 `554 5.2.2 mailbox full; STOREDRV…`: learn.microsoft.com, smtp-submission-improvements",
        "5..",
        text=r"STOREDRV\.Submission\.Exception:QuotaExceeded",
        hint="the mailbox that sends is full: empty its folder Sent Items",
    ),
    Row(
        Unavailable,
        "RFC 3463 §3.3; `552 5.2.2 Mailbox full`",
        "5..",
        enhanced=r"5\.2\.2",
        text=r"mailbox (is )?full|over.?quota|mailbox .*quota|quota .*mailbox",
        commands=_AFTER_MAIL,
        hint="the recipient's mailbox is full",
    ),
    Row(
        Unavailable,
        "Gmail `550 5.4.5`; Google relay: wazuh#15825; Microsoft 365 `554 5.2.0`; SES `Daily message quota exceeded`",
        "5..",
        enhanced=r"5\.4\.5",
        text=r"SubmissionQuotaExceeded|quota (has been )?exceeded|exceeded (your|the) (\w+ ){0,3}quota"
        r"|(daily|hourly|monthly|relay) (\w+ ){0,3}(limit|quota)",
        commands=_FROM_MAIL,
        hint=_QUOTA,
        wait_seconds=QUOTA_WAIT_SECONDS,
        is_throttled=True,
    ),
    # credentials
    Row(Misconfigured, "RFC 4954 §6", "53[0458]", hint=_CREDENTIALS),
    # too many mails
    Row(
        Unavailable,
        "SES `454 Throttling failure: Daily message quota exceeded`",
        "4..",
        text=r"(daily|hourly|monthly|relay) (\w+ ){0,3}(limit|quota)",
        commands=_FROM_MAIL,
        hint=_QUOTA,
        wait_seconds=QUOTA_WAIT_SECONDS,
        is_throttled=True,
    ),
    Row(Unavailable, "RFC 6647: greylisting is about one recipient", "4..", text=r"gr[ea]y-?list", hint=_GREYLISTED),
    Row(
        Unavailable,
        "SES `454 Throttling failure: Maximum sending rate exceeded`; Postfix anvil `450 4.7.1 Error: too much mail`",
        "4..",
        text=r"throttl|(sending|send|message|mail|rate) (rate|limit) (is |was |has been )?(exceeded|reached)"
        r"|rate.?limit|too (much mail|many (messages|e-?mails|mails|requests)|fast|quickly)|slow down|too frequent",
        hint=_TOO_FAST,
        is_throttled=True,
    ),
    Row(
        Unavailable,
        "RFC 3463 §3.8; Google `451 4.7.28`",
        "451",
        enhanced=r"4\.7\..*",
        hint=_TOO_FAST,
        is_throttled=True,
    ),
    # the sender; also in replies that go on with "user unknown" (sender verification)
    Row(
        Misconfigured,
        "Postfix and Exim: sender verification; Zoho: erpnext#19057, mattermost#13224; Microsoft 365; vendors' guides",
        "5..",
        enhanced=r"5\.1\.[78]|5\.7\.60|5\.2\.252",
        text=r"sender address rejected|sender verif|sender.*(unknown|not found|does not exist)|bad outbound sender"
        r"|not owned by user|relaying disallowed as|permissions? to send as|SendAsDenied"
        r"|verified sender identity|not a sender signature|not authorized to send from"
        r"|address(es)? (is|are) not verified|domain (\S+ )?is not verified|unverified (sender|domain|address)",
        commands=_FROM_MAIL,
        hint=_SENDER,
    ),
    Row(
        Declined,
        "Gmail `550-5.7.26`; RFC 7372",
        "5..",
        enhanced=r"5\.7\.2[0-9]",
        text=r"sender is unauthenticated|\bdmarc\b|\bspf (check |validation )?fail|\bdkim (check |validation )?fail",
        commands=_FROM_MAIL,
        hint="receivers cannot authenticate the sender: run `mailroom doctor` and correct SPF, DKIM and DMARC",
    ),
    # the content; Spamhaus and SpamCop list IP addresses
    Row(
        Declined,
        "SpamAssassin, Rspamd, URI block lists (surbl.org, uribl.com)",
        "5..",
        text=r"\bspam(?!haus|cop)|virus|phish|\buribl|\bsurbl|(url|content)\b.*(rejected|blocked|listed)",
        commands=_AFTER_MAIL,
        hint="the content was taken for spam: run `mailroom check` and `mailroom doctor`",
    ),
    # our IP address or account
    Row(
        Misconfigured,
        "Postfix with a DNS block list: nodemailer#1089",
        "5..",
        text=r"client host .*(rejected|blocked)|blocked using|block ?list|blacklist|listed (in|by|on|at) \S+\.\w",
        commands=_FROM_MAIL,
        hint="our IP address is on a block list: have it removed (check.spamhaus.org), or set local_address or proxy",
    ),
    Row(
        Declined,
        "Postfix, Sendmail, Exchange `550 5.7.54`: some recipients only",
        "5..",
        text=r"relay(ing)? (access )?(is )?(denied|not permitted|not allowed|prohibited)|unable to relay"
        r"|not permitted to relay",
        commands=_AFTER_MAIL,
        hint="the server relays only for clients that it knows: set username and password, or add our IP address there",
    ),
    Row(
        Misconfigured,
        "SES, identity policy: symfony#51461, data.gov#3810",
        "5..",
        text=r"not authorized to perform|\bses:Send",
        commands=_FROM_MAIL,
        hint="allow ses:SendRawEmail and ses:SendEmail for this user in its IAM policy "
        "(docs.aws.amazon.com/ses/latest/dg/control-user-access.html)",
    ),
    Row(
        Misconfigured,
        "Brevo `502 5.7.0`: fluent-smtp#157; SES; Mailgun",
        "5..",
        text=r"not (yet )?activated|account (is )?(under|pending) \w+|sending (is |has been )?(paused|suspended)"
        r"|your (\w+ )?account (is|has been|was) |is not allowed to send",
        commands=_FROM_MAIL,
        hint=_ACCOUNT,
    ),
    # the recipient's address
    Row(
        Rejected,
        "RFC 3463 §3.2 and §3.3, RFC 7505; Exchange `5.1.10`; Gmail `5.2.1`; vendors' guides",
        "5..",
        enhanced=r"5\.1\.(1|2|3|6|10)|5\.2\.1",
        text=r"\b(user|recipient|mailbox) (\S+ )?(is )?(unknown|not found|does(n't| not) exist)\b"
        r"|unknown (user|recipient|mailbox|local)\b|no such (user|mailbox|recipient|address)\b"
        r"|account that you tried to reach|invalid (recipient|rcptto|mailbox)\b"
        r"|inactive (recipient|address)|(recipients?|address(es)?)\b.*\b(inactive|suppress)|suppression list"
        r"|\bto\b[`'\"]? (parameter |field )?is not an? (valid )?(e-?mail )?address|invalid [`'\"]?to\b"
        r"|missing final '@domain'|not valid in to\b",
        commands=_AFTER_MAIL,
    ),
    # the mail
    Row(
        Declined,
        "RFC 1870 §6.1; keycloak#41023",
        "5..",
        enhanced=r"5\.3\.4|5\.2\.3",
        text=r"^552|(message|mail)( size)? (exceeds|is too (large|big|long))|too (large|big)\b",
        commands=_FROM_MAIL,
        hint=TOO_LARGE,
    ),
    # before a recipient was named, a permanent refusal concerns us or the sender
    Row(Misconfigured, "RFC 5321 §4.2.1", "5..", commands=_BEFORE_MAIL),
    Row(Misconfigured, "RFC 5321 §4.2.1", "5..", commands=frozenset({Command.MAIL}), hint=_SENDER),
    # anything else
    Row(
        Declined,
        "RFC 5321 §4.2.1",
        "5..",
        hint="not about the recipient's address: correct what the reply says, then run `mailroom outbox retry`",
    ),
    Row(Unavailable, "RFC 5321 §4.2.1", "4.."),
)


def classify(command: Command, code: int, enhanced: str, text: str) -> Row:
    """Return the row for a reply; a positive reply to another command counts as a temporary failure."""
    matches = (row for row in ROWS if row.matches(command, f"{code:03d}", enhanced, text))
    return next(matches, Row(Unavailable, "a reply out of sequence"))


def classify_text(text: str, *, is_temporary: bool = False) -> Row:
    """Return the row for the diagnostic of an HTTP API that refuses a mail."""
    return classify(Command.CONTENT, 450 if is_temporary else 550, "", text)
