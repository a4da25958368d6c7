"""Asks strangers about every mail, `python -m tests.checking.oracles`: SpamAssassin's local rules, and html-validate.

Needs Debian's spamassassin, and `make node`. Nothing is dialled. CI runs it in its slower suites (`make mails`).
"""

import os
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
SEEDS: Final = (0, 1, 2, 3)
HIGHEST: Final = 1.0
"""SpamAssassin's threshold for spam is 5."""

_SCORED: Final = re.compile(
    r"^X-Spam-Status: \w+, score=(-?[\d.]+)[^=]*=[^=]*tests=(.*?)\s(?:autolearn|version)=", re.MULTILINE | re.DOTALL
)


def main() -> int:
    """Ask about every kind in every language; return 1 if anybody objects."""
    desk = Desk(writer(), SENDER)
    made = [desk.mail(kind, tag, Sample.FULL) for kind, tags in desk.inventory.kinds.items() for tag in tags]
    mails = [mail for mail in made if isinstance(mail, Mail)]
    objections = [finding.problem for finding in made if not isinstance(finding, Mail)]
    objections += [*spam(mails), *invalid(mails)]
    print(*objections, f"{len(mails)} mails, {len(objections)} objections", sep="\n")  # noqa: T201 - a command's answer
    return 1 if objections else 0


def spam(mails: list[Mail]) -> Iterator[str]:
    """Yield the mails that SpamAssassin scores too high, by its local rules.

    Some of its rules (MIXED_ES, LONG_INVISIBLE_TEXT) come and go with the order of Perl's hashes: 5 of 200 mails, other
    ones with each seed. What is wrong with a mail is wrong with every seed.
    """
    if not shutil.which("spamassassin"):
        yield "spamassassin is not installed"
        return
    suspects = mails
    for seed in SEEDS:
        scores = _scored(suspects, seed) if suspects else []
        told = [(mail, score, rules) for mail, (score, rules) in zip(suspects, scores, strict=True) if score >= HIGHEST]
        suspects = [mail for mail, _, _ in told]
    for mail, score, rules in told:
        yield f"{mail.kind} {mail.language}: SpamAssassin scores {score} ({rules})"


def _scored(mails: list[Mail], seed: int) -> list[tuple[float, str]]:
    """Return the score of each, and the rules that made it."""
    box = b"".join(b"From mailroom Sat Nov 21 12:00:00 2026\n" + delivered(mail) + b"\n" for mail in mails)
    with tempfile.TemporaryDirectory() as home:  # it learns, and would judge the next run by this one
        done = subprocess.run(
            ["spamassassin", "-L", "-t", "--mbox", "--cf=use_bayes 0"],
            input=box,
            capture_output=True,
            check=True,
            timeout=900,
            env=os.environ | {"HOME": home, "PERL_HASH_SEED": str(seed), "PERL_PERTURB_KEYS": "0"},
        )
    found = _SCORED.findall(done.stdout.decode(errors="replace"))
    return [(float(score), " ".join(rules.split())) for score, rules in found]


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
