"""Row b measures each client, and the SMTP server of the bench records every mail."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mailroom.providers.smtp.smtp_provider import Settings, connect
from tests.mails import email
from tests.providers.contract import context

ROOT = Path(__file__).parents[2]


def test_row_b_has_a_rate_and_a_cost_for_each_client() -> None:
    """In a process of its own: it pins itself to a core."""
    script = "from bench import figures, smtp; figures.show(smtp.measure(1, mails=32), as_json=True)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True, timeout=60)
    figures = json.loads(done.stdout)
    assert sum(figure["ours"].endswith(" /s") for figure in figures) == 6
    assert sum(figure["ours"].endswith(" µs") for figure in figures) == 6
    assert sum(figure["met"] is not None for figure in figures) == 6


@pytest.mark.parametrize("offers", [["--no-pipelining"], [], ["--chunking"]], ids=["steps", "two", "one"])
@pytest.mark.parametrize("tls", [True, False])
async def test_the_server_counts_and_records_every_mail(
    tmp_path: Path,
    offers: list[str],
    tls: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    journal, ca_file = tmp_path / "journal", tmp_path / "ca.pem"
    options: list[str | Path] = ["--journal", journal, "--starttls", ca_file, *offers]
    sink = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.programs.sink", *options, cwd=ROOT, stdout=subprocess.PIPE
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
    recorded = [line.split() for line in journal.read_text().splitlines()]
    assert {message_id for _, message_id in recorded} == {mail.message_id for mail in mails}
    assert all(int(arrived) > 0 for arrived, _ in recorded)
