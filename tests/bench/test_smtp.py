"""The sink and row b run, and the sink is honest about what it got."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mailroom.providers.smtp.smtp_provider import Settings, connect
from tests.mails import email
from tests.providers.contract import context

ROOT = Path(__file__).parents[2]


def test_row_b_prints_a_ratio_for_each_way() -> None:
    """As a process of its own: it pins itself to a core."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.smtp", "--rounds", "1", "--mails", "32"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.count("ratio") == 9
    assert done.stdout.count("aim") == 6


@pytest.mark.parametrize("offers", [["--no-pipelining"], [], ["--chunking"]], ids=["steps", "two", "one"])
@pytest.mark.parametrize("tls", [True, False])
async def test_the_sink_counts_and_notes_every_mail(
    tmp_path: Path,
    offers: list[str],
    tls: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    journal, ca_file = tmp_path / "journal", tmp_path / "ca.pem"
    options: list[str | Path] = [
        "--journal",
        journal,
        "--starttls",
        ca_file,
        *offers,
    ]
    sink = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.sink", *options, cwd=ROOT, stdout=subprocess.PIPE
    )
    assert sink.stdout is not None
    port = int(await sink.stdout.readline())
    settings = {"tls": "starttls", "ca_file": ca_file} if tls else {"tls": "none"}
    provider = connect(Settings(host="127.0.0.1", port=port, **settings), context())
    mails = [email(identifier=str(number), text=".\r\n..\r\n.\r\n" * number) for number in range(20)]
    await asyncio.gather(*map(provider.send, mails))
    await provider.aclose()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"STAT\r\n")
    await reader.readline()
    assert await reader.readline() == b"250 20\r\n"
    writer.close()
    await writer.wait_closed()
    sink.send_signal(signal.SIGTERM)
    assert await sink.wait() == 0
    noted = [line.split() for line in journal.read_text().splitlines()]
    assert {message_id for _, message_id in noted} == {mail.message_id for mail in mails}
    assert all(int(arrived) > 0 for arrived, _ in noted)
