"""The classification of an SMTP server's replies: real replies, and the kind of each."""

import pytest

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable
from mailroom.providers.refusals import QUOTA_WAIT_SECONDS, ROWS, Row
from mailroom.providers.smtp.replies import diagnostic, full_code, refusal
from mailroom.smtpclient import Command, Reply

CASES: list[tuple[Command, str, type[SendingError]]] = [
    # before there is a mail
    (Command.GREETING, "554 5.7.1 Your address is on our block list", Misconfigured),
    (Command.GREETING, "421 4.3.2 too many connections", Unavailable),
    (Command.GREETING, "450 4.7.1 come back later", Unavailable),
    (Command.EHLO, "550 5.7.1 bad HELO name", Misconfigured),
    (Command.EHLO, "501 syntax error", Misconfigured),
    (Command.STARTTLS, "454 4.7.0 TLS not available due to local problem", Unavailable),
    (Command.STARTTLS, "502 5.5.1 not implemented", Misconfigured),
    # credentials
    (Command.AUTH, "535 5.7.8 Username and Password not accepted", Misconfigured),
    (Command.AUTH, "535 Authentication Credentials Invalid", Misconfigured),
    (Command.AUTH, "534 5.7.9 Application-specific password required", Misconfigured),
    (Command.AUTH, "538 5.7.11 Encryption required", Misconfigured),
    (Command.AUTH, "504 5.5.4 Unrecognized authentication type", Misconfigured),
    (Command.AUTH, "432 4.7.12 A password transition is needed", Misconfigured),
    (Command.AUTH, "454 4.7.0 Temporary authentication failure", Unavailable),
    (Command.AUTH, "421 4.7.0 Too many login attempts", Unavailable),
    (Command.AUTH, "451 Authentication failed: Maximum credits exceeded", Misconfigured),
    # the sender
    (Command.MAIL, "530 5.7.0 Authentication required", Misconfigured),
    (Command.MAIL, "550 5.7.1 Sender address not verified", Misconfigured),
    (Command.MAIL, "553 5.7.1 Sender address rejected: not owned by user", Misconfigured),
    (Command.MAIL, "554 5.7.1 no", Misconfigured),
    (Command.MAIL, "436 Mail from must equal authorized user", Misconfigured),
    (Command.MAIL, "451 4.3.0 try again", Unavailable),
    (Command.MAIL, "452 4.3.1 Insufficient system storage", Unavailable),
    (Command.MAIL, "454 Throttling failure: Maximum sending rate exceeded.", Unavailable),
    (Command.MAIL, "454 Throttling failure: Daily message quota exceeded.", Unavailable),
    (Command.MAIL, "552 5.3.4 Message size exceeds fixed limit", Declined),
    # the recipient
    (Command.RCPT, "550 5.1.1 The email account that you tried to reach does not exist", Rejected),
    (Command.RCPT, "551 5.1.6 User not local", Rejected),
    (Command.RCPT, "552 5.2.2 Mailbox full", Unavailable),
    (Command.RCPT, "553 5.1.3 Bad recipient address syntax", Rejected),
    (Command.RCPT, "450 4.2.0 Greylisted, see you in five minutes", Unavailable),
    (Command.RCPT, "452 4.5.3 Too many recipients", Unavailable),
    (Command.RCPT, "452 4.2.2 The email account that you tried to reach is over quota", Unavailable),
    (Command.RCPT, "559 Invalid rcptto", Rejected),
    (Command.RCPT, "563 Recipient in suppression list", Rejected),
    (Command.RCPT, "530 5.7.0 Must issue a STARTTLS command first", Misconfigured),
    # the sender again: many servers judge it when they know the recipient, or the whole mail
    (Command.RCPT, "554 5.7.1 <ada@reader.example>: Relay access denied", Declined),
    (Command.RCPT, "550 5.7.1 Relaying denied", Declined),
    (Command.RCPT, "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain", Declined),
    (Command.RCPT, "553 5.7.1 <no-reply@acme.example>: Sender address rejected: not owned by user acme", Misconfigured),
    (Command.RCPT, "554 5.7.1 <unknown[203.0.113.9]>: Client host rejected: Access denied", Misconfigured),
    (Command.CONTENT, "554 Message rejected: Email address is not verified. The following identities", Misconfigured),
    (Command.CONTENT, "554 Message rejected: Sending suspended for this account", Misconfigured),
    (Command.CONTENT, "550 The from address does not match a verified Sender Identity.", Misconfigured),
    (Command.CONTENT, "550 5.7.60 SMTP; Client does not have permissions to send as this sender", Misconfigured),
    (Command.CONTENT, "554 5.2.252 SendAsDenied; no-reply@acme.example not allowed to send as", Misconfigured),
    (Command.CONTENT, "550 The 'From' address you supplied is not a Sender Signature on your account", Misconfigured),
    (Command.CONTENT, "550 Domain acme.example is not allowed to send: The domain is unverified", Misconfigured),
    (Command.CONTENT, "550 5.4.5 Daily user sending limit exceeded.", Unavailable),
    # the mail
    (Command.DATA, "554 5.5.1 no valid recipients", Declined),
    (Command.CONTENT, "554 5.7.1 spam", Declined),
    (Command.CONTENT, "552 5.3.4 too big", Declined),
    (Command.CONTENT, "451 4.7.0 try later", Unavailable),
    (Command.CONTENT, "421 4.3.2 shutting down", Unavailable),
    # the address, however it is said
    (Command.RCPT, "550 5.1.2 bad destination system address", Rejected),
    (Command.RCPT, "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", Rejected),
    (Command.RCPT, "550 5.2.1 The email account that you tried to reach is disabled.", Rejected),
    (Command.RCPT, "550 <ada@reader.example>: User unknown in virtual mailbox table", Rejected),
    (Command.RCPT, "550 No such user here", Rejected),
    (Command.RCPT, "550 no such mailbox", Rejected),
    (Command.CONTENT, "550 5.1.0 unknown user", Rejected),
    (Command.CONTENT, "550 You tried to send to inactive recipient", Rejected),
    # words like these, and not the address
    (Command.RCPT, "550 5.1.0 <no-reply@acme.example>: Sender address rejected: User unknown in table", Misconfigured),
    (Command.RCPT, "450 4.1.1 <ada@reader.example>: Recipient address rejected: unverified address", Unavailable),
    (Command.RCPT, "550 Requested action not taken: mailbox unavailable", Declined),
    (Command.RCPT, "550 5.7.1 <ada@reader.example>: Recipient address rejected: Access denied", Declined),
    (Command.MAIL, "550 5.1.1 user unknown", Misconfigured),
    # a positive reply out of place
    (Command.DATA, "250 Ok", Unavailable),
    (Command.MAIL, "354 what?", Unavailable),
]


@pytest.mark.parametrize(("command", "text", "kind"), CASES, ids=[f"{row[0]}: {row[1][:40]}" for row in CASES])
def test_a_reply_has_its_kind(command: Command, text: str, kind: type[SendingError]) -> None:
    error = refusal(command, Reply(int(text[:3]), (text[4:],)))
    assert type(error) is kind
    assert error.diagnostic == text
    assert error.code
    assert text.startswith(error.code)


FIELD_REPORTS: list[tuple[Command, Reply, type[SendingError], str]] = [
    (
        Command.CONTENT,
        Reply(432, ("4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending",)),
        Unavailable,
        "concurrency",
    ),
    (
        Command.CONTENT,
        Reply(554, ("Access denied: User `arn:aws:iam::1:user/x' is not authorized to perform `ses:SendRawEmail'",)),
        Misconfigured,
        "IAM",
    ),
    (Command.CONTENT, Reply(553, ("Relaying disallowed as no-reply@acme.example",)), Misconfigured, "`from`"),
    (
        Command.RCPT,
        Reply(554, ("5.7.1 Service unavailable; Client host [203.0.113.9] blocked using zen.spamhaus.org",)),
        Misconfigured,
        "block list",
    ),
    (
        Command.RCPT,
        Reply(550, ("5.7.1 Service unavailable, Client host [203.0.113.9] blocked using Spamhaus",)),
        Misconfigured,
        "block list",
    ),
    (
        Command.CONTENT,
        Reply(
            550,
            (
                "5.7.1 Daily SMTP relay limit exceeded for customer. For more",
                "5.7.1 information on SMTP relay sending limits please contact your",
                "5.7.1 administrator. - gsmtp",
            ),
        ),
        Unavailable,
        "quota",
    ),
    (Command.RCPT, Reply(502, ("5.7.0 Your SMTP account is not yet activated",)), Misconfigured, "account"),
    (
        Command.CONTENT,
        Reply(554, ("5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process",)),
        Unavailable,
        "quota",
    ),
    (
        Command.CONTENT,
        Reply(554, ("5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException.MapiExceptionShutoff",)),
        Misconfigured,
        "Sent Items",
    ),
    (Command.RCPT, Reply(550, ("5.1.8 Access denied, bad outbound sender",)), Misconfigured, "`from`"),
    (
        Command.RCPT,
        Reply(504, ("5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname",)),
        Misconfigured,
        "helo_name",
    ),
    (Command.RCPT, Reply(450, ("4.7.1 <mail>: Helo command rejected: Host not found",)), Unavailable, "helo_name"),
    (Command.EHLO, Reply(421, ("4.7.0 Try again later, closing connection. (EHLO)",)), Unavailable, "helo_name"),
    (
        Command.CONTENT,
        Reply(
            550,
            (
                "5.7.26 Your email has been blocked because the sender is unauthenticated.",
                "5.7.26 Gmail requires all senders to authenticate with either SPF or DKIM.",
            ),
        ),
        Declined,
        "doctor",
    ),
    (Command.CONTENT, Reply(552, ("5.3.4 Message size exceeds fixed limit",)), Declined, "large"),
    (Command.CONTENT, Reply(554, ("5.6.0 we do not like it",)), Declined, "outbox retry"),
]
"""Public reports of refusals that were wrongly blamed on the recipient."""


@pytest.mark.parametrize(
    ("command", "reply", "kind", "hint"),
    FIELD_REPORTS,
    ids=[diagnostic(row[1])[:50] for row in FIELD_REPORTS],
)
def test_a_refusal_that_is_not_about_the_address_never_ends_a_message(
    command: Command, reply: Reply, kind: type[SendingError], hint: str
) -> None:
    error = refusal(command, reply)
    assert type(error) is kind
    assert hint in error.hint
    assert error.diagnostic.count(str(reply.code)) == 1


def test_an_exhausted_quota_has_a_longer_wait() -> None:
    error = refusal(Command.CONTENT, Reply(550, ("5.4.5 Daily user sending limit exceeded.",)))
    assert isinstance(error, Unavailable)
    assert error.retry_after == QUOTA_WAIT_SECONDS


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (Command.GREETING, "421 4.7.0 Too many connections from your IP address"),
        (Command.CONTENT, "421 4.7.28 Our system has detected an unusual rate of unsolicited mail"),
        (Command.MAIL, "421 4.3.2 Service not available, closing transmission channel"),
        (Command.CONTENT, "432 4.3.2 Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending"),
        (Command.MAIL, "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded"),
        (Command.RCPT, "451 4.7.500 Server busy. Please try again later"),
        (Command.MAIL, "451 4.7.1 try again later"),
        (Command.MAIL, "454 Throttling failure: Maximum sending rate exceeded."),
        (Command.MAIL, "454 Throttling failure: Daily message quota exceeded."),
        (Command.MAIL, "450 4.7.1 Error: too much mail from 203.0.113.9"),
        (Command.CONTENT, "550 5.4.5 Daily user sending limit exceeded."),
    ],
)
def test_throttling_is_known_as_such(command: Command, text: str) -> None:
    error = refusal(command, Reply(int(text[:3]), (text[4:],)))
    assert isinstance(error, Unavailable)
    assert error.is_throttled
    assert (error.retry_after == QUOTA_WAIT_SECONDS) is ("Daily" in text)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (Command.EHLO, "421 4.7.0 Try again later, closing connection. (EHLO)"),
        (Command.RCPT, "451 4.7.1 Greylisting in action, please come back later"),
        (Command.RCPT, "450 4.2.0 <ada@reader.example>: Recipient address rejected: Greylisted"),
        (Command.RCPT, "452 4.2.2 The email account that you tried to reach is over quota"),
        (Command.RCPT, "450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents it"),
        (Command.CONTENT, "451 4.3.0 local error in processing"),
    ],
)
def test_what_is_about_one_recipient_or_the_server_is_no_throttling(command: Command, text: str) -> None:
    error = refusal(command, Reply(int(text[:3]), (text[4:],)))
    assert isinstance(error, Unavailable)
    assert not error.is_throttled


def test_a_failed_sender_verification_is_not_about_the_recipient() -> None:
    """Exim repeats the reply of the sender's own server."""
    lines = ("Verification failed for <no-reply@acme.example>", "No Such User Here", "Sender verify failed")
    assert type(refusal(Command.RCPT, Reply(550, lines))) is Misconfigured


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.codes} {row.source[:40]}" for row in ROWS])
def test_every_row_has_a_source_and_those_not_about_the_recipient_a_hint(row: Row) -> None:
    assert row.source
    assert row.hint or row.kind is Rejected or not (row.text or row.enhanced)


def test_only_replies_after_mail_are_final() -> None:
    final = {command for command in Command for row in ROWS if row.kind is Rejected and command in row.commands}
    assert final == {Command.RCPT, Command.DATA, Command.CONTENT}


def test_a_code_that_the_server_repeats_is_shown_once() -> None:
    assert diagnostic(Reply(550, ("550 5.1.1 no such user", "550-5.1.1 really"))) == "550 5.1.1 no such user really"
    assert diagnostic(Reply(550, ("550 #5.1.0 Address rejected.",))) == "550 5.1.0 Address rejected."
    assert diagnostic(Reply(554, ("554 5.7.1 554 5.7.1 no",))) == "554 5.7.1 no"
    assert diagnostic(Reply(554, ("554 554 no",))) == "554 no"


def test_several_lines_become_one_and_the_enhanced_code_is_shown_once() -> None:
    reply = Reply(550, ("5.1.1 The account does not exist.", "5.1.1 Please check it", "5.1.1  - gsmtp"))
    assert full_code(reply) == "550 5.1.1"
    assert diagnostic(reply) == "550 5.1.1 The account does not exist. Please check it - gsmtp"


def test_a_diagnostic_is_printable_and_bounded() -> None:
    reply = Reply(550, ("a\tb\x1b[31m\x00\u202e" + "x" * 5000,))
    assert diagnostic(reply).isprintable()
    assert len(diagnostic(reply)) == 500
    assert diagnostic(reply).startswith("550 a b [31m xxx")


def test_a_reply_without_text_has_a_diagnostic() -> None:
    assert diagnostic(Reply(550, ("",))) == "550"
    assert full_code(Reply(550)) == "550"
