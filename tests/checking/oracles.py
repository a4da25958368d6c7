"""Asks strangers about every mail, `python -m tests.checking.oracles`: SpamAssassin's local rules, and html-validate.

Needs Debian's spamassassin, and `make node`. Nothing is dialled. CI runs it in its slower suites (`make mails`).
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mailroom.checking.mail import Mail
from mailroom.checking.making import Desk
from mailroom.checking.samples import Sample
from tests.rendering.samples import SENDER, writer

NODE: Final = Path(__file__).parents[1] / "node"
HIGHEST_SCORE: Final = 1.0
"""SpamAssassin's threshold for spam is 5."""

_SCORED: Final = re.compile(r"^X-Spam-Status: \w+, score=(-?[\d.]+).*?tests=((?:\S|\s(?=\s))*)", re.MULTILINE)


def main() -> int:
    """Ask about every kind in every language; return 1 if anybody objects."""
    desk = Desk(writer(), SENDER)
    made = [desk.mail(kind, tag, Sample.FULL) for kind, tags in desk.writer.kinds.items() for tag in tags]
    mails = [mail for mail in made if isinstance(mail, Mail)]
    objections = [finding.problem for finding in made if not isinstance(finding, Mail)]
    objections += [*spam(mails), *invalid(mails)]
    print(*objections, f"{len(mails)} mails, {len(objections)} objections", sep="\n")  # noqa: T201 - a command's answer
    return 1 if objections else 0


def spam(mails: list[Mail]) -> Iterator[str]:
    """Yield the mails that SpamAssassin scores too high, by its local rules."""
    program = shutil.which("spamassassin")
    if not program:
        yield "spamassassin is not installed"
        return
    box = b"".join(b"From mailroom Sat Nov 21 12:00:00 2026\n" + delivered(mail) + b"\n" for mail in mails)
    done = subprocess.run([program, "-L", "-t", "--mbox"], input=box, capture_output=True, check=True, timeout=900)
    found = _SCORED.findall(done.stdout.decode(errors="replace"))
    if len(found) != len(mails):
        yield f"SpamAssassin scored {len(found)} of {len(mails)} mails"
    for mail, (score, tests) in zip(mails, found, strict=False):
        if float(score) >= HIGHEST_SCORE:
            yield f"{mail.kind} {mail.language}: SpamAssassin scores {score} ({' '.join(tests.split())})"


def delivered(mail: Mail) -> bytes:
    """Return a mail as it lies in a mailbox; without the Received of its way, for made-up addresses score."""
    return mail.email.raw.replace(b"\r\n", b"\n").replace(b"\nFrom ", b"\n>From ")


def invalid(mails: list[Mail]) -> Iterator[str]:
    """Yield what html-validate says."""
    program = NODE / "node_modules" / ".bin" / "html-validate"
    if not program.exists():
        yield "html-validate is not installed: make node"
        return
    with tempfile.TemporaryDirectory() as folder:
        for mail in mails:
            (Path(folder) / f"{mail.kind}.{mail.language}.html").write_text(mail.email.html, encoding="utf-8")
        done = subprocess.run(
            [program, "--config", NODE / "html-validate.json", "--formatter", "text", "*.html"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
    if done.returncode or done.stderr:
        yield from (done.stdout + done.stderr).splitlines()


if __name__ == "__main__":
    sys.exit(main())
