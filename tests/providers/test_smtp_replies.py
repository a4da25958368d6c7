"""What an SMTP server's replies mean: real replies, and the kind that each must be."""

import pytest

from mailroom.errors import Misconfigured, Rejected, SendingError, Unavailable
from mailroom.providers._smtp_replies import Reply, Stage, refusal

CASES: list[tuple[Stage, str, type[SendingError]]] = [
    # before there is a mail
    (Stage.GREETING, "554 5.7.1 Your address is on our block list", Misconfigured),
    (Stage.GREETING, "421 4.3.2 too many connections", Unavailable),
    (Stage.GREETING, "450 4.7.1 come back later", Unavailable),
    (Stage.EHLO, "550 5.7.1 bad HELO name", Misconfigured),
    (Stage.EHLO, "501 syntax error", Misconfigured),
    (Stage.STARTTLS, "454 4.7.0 TLS not available due to local problem", Unavailable),
    (Stage.STARTTLS, "502 5.5.1 not implemented", Misconfigured),
    # credentials
    (Stage.AUTH, "535 5.7.8 Username and Password not accepted", Misconfigured),
    (Stage.AUTH, "535 Authentication Credentials Invalid", Misconfigured),
    (Stage.AUTH, "534 5.7.9 Application-specific password required", Misconfigured),
    (Stage.AUTH, "538 5.7.11 Encryption required", Misconfigured),
    (Stage.AUTH, "504 5.5.4 Unrecognized authentication type", Misconfigured),
    (Stage.AUTH, "432 4.7.12 A password transition is needed", Misconfigured),
    (Stage.AUTH, "454 4.7.0 Temporary authentication failure", Unavailable),
    (Stage.AUTH, "421 4.7.0 Too many login attempts", Unavailable),
    (Stage.AUTH, "451 Authentication failed: Maximum credits exceeded", Misconfigured),
    # the sender
    (Stage.MAIL, "530 5.7.0 Authentication required", Misconfigured),
    (Stage.MAIL, "550 5.7.1 Sender address not verified", Misconfigured),
    (Stage.MAIL, "553 5.7.1 Sender address rejected: not owned by user", Misconfigured),
    (Stage.MAIL, "554 5.7.1 no", Misconfigured),
    (Stage.MAIL, "436 Mail from must equal authorized user", Misconfigured),
    (Stage.MAIL, "451 4.3.0 try again", Unavailable),
    (Stage.MAIL, "452 4.3.1 Insufficient system storage", Unavailable),
    (Stage.MAIL, "454 Throttling failure: Maximum sending rate exceeded.", Unavailable),
    (Stage.MAIL, "454 Throttling failure: Daily message quota exceeded.", Unavailable),
    (Stage.MAIL, "552 5.3.4 Message size exceeds fixed limit", Rejected),
    # the recipient
    (Stage.RCPT, "550 5.1.1 The email account that you tried to reach does not exist", Rejected),
    (Stage.RCPT, "551 5.1.6 User not local", Rejected),
    (Stage.RCPT, "552 5.2.2 Mailbox full", Rejected),
    (Stage.RCPT, "553 5.1.3 Bad recipient address syntax", Rejected),
    (Stage.RCPT, "450 4.2.0 Greylisted, see you in five minutes", Unavailable),
    (Stage.RCPT, "452 4.5.3 Too many recipients", Unavailable),
    (Stage.RCPT, "452 4.2.2 The email account that you tried to reach is over quota", Unavailable),
    (Stage.RCPT, "559 Invalid rcptto", Rejected),
    (Stage.RCPT, "563 Recipient in suppression list", Rejected),
    (Stage.RCPT, "530 5.7.0 Must issue a STARTTLS command first", Misconfigured),
    # the sender again: many servers judge it when they know the recipient, or the whole mail
    (Stage.RCPT, "554 5.7.1 <ada@reader.example>: Relay access denied", Misconfigured),
    (Stage.RCPT, "550 5.7.1 Relaying denied", Misconfigured),
    (Stage.RCPT, "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain", Misconfigured),
    (Stage.RCPT, "553 5.7.1 <no-reply@acme.example>: Sender address rejected: not owned by user acme", Misconfigured),
    (Stage.RCPT, "554 5.7.1 <unknown[203.0.113.9]>: Client host rejected: Access denied", Misconfigured),
    (Stage.CONTENT, "554 Message rejected: Email address is not verified. The following identities", Misconfigured),
    (Stage.CONTENT, "554 Message rejected: Sending suspended for this account", Misconfigured),
    (Stage.CONTENT, "550 The from address does not match a verified Sender Identity.", Misconfigured),
    (Stage.CONTENT, "550 5.7.60 SMTP; Client does not have permissions to send as this sender", Misconfigured),
    (Stage.CONTENT, "554 5.2.252 SendAsDenied; no-reply@acme.example not allowed to send as", Misconfigured),
    (Stage.CONTENT, "550 The 'From' address you supplied is not a Sender Signature on your account", Misconfigured),
    (Stage.CONTENT, "550 Domain acme.example is not allowed to send: The domain is unverified", Misconfigured),
    (Stage.CONTENT, "550 5.4.5 Daily user sending limit exceeded.", Unavailable),
    # the mail
    (Stage.DATA, "554 5.5.1 no valid recipients", Rejected),
    (Stage.CONTENT, "554 5.7.1 spam", Rejected),
    (Stage.CONTENT, "552 5.3.4 too big", Rejected),
    (Stage.CONTENT, "451 4.7.0 try later", Unavailable),
    (Stage.CONTENT, "421 4.3.2 shutting down", Unavailable),
    # a positive reply out of place
    (Stage.DATA, "250 Ok", Unavailable),
    (Stage.MAIL, "354 what?", Unavailable),
]


@pytest.mark.parametrize(("stage", "text", "kind"), CASES, ids=[f"{stage}: {text[:40]}" for stage, text, _ in CASES])
def test_a_reply_is_of_its_kind(stage: Stage, text: str, kind: type[SendingError]) -> None:
    error = refusal(stage, Reply(int(text[:3]), (text[4:],)))
    assert type(error) is kind
    assert error.words == text
    assert error.code
    assert text.startswith(error.code)


def test_several_lines_become_one_and_the_enhanced_code_is_said_once() -> None:
    reply = Reply(550, ("5.1.1 The account does not exist.", "5.1.1 Please check it", "5.1.1  - gsmtp"))
    assert reply.full_code == "550 5.1.1"
    assert reply.words == "550 5.1.1 The account does not exist. Please check it - gsmtp"


def test_words_are_printable_and_bounded() -> None:
    reply = Reply(550, ("a\tb\x1b[31m\x00\u202e" + "x" * 5000,))
    assert reply.words.isprintable()
    assert len(reply.words) == 500
    assert reply.words.startswith("550 a b [31m xxx")


def test_a_bare_code_has_words() -> None:
    assert Reply(550, ("",)).words == "550"
    assert Reply(550).full_code == "550"
