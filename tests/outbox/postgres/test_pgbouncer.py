"""The contract through PgBouncer in transaction mode, which gives each transaction another connection; and over TLS."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from mailroom.errors import CannotKeep
from mailroom.outbox.postgres.postgres_engine import PostgresOutbox
from mailroom.outbox.postgres.wakeups import NOTIFY
from tests.e2e.harness import unless
from tests.outbox.contract import OutboxContract, message
from tests.outbox.limits_contract import LimitsContract
from tests.outbox.postgres.conftest import Open, new_url
from tests.ports import free_port
from tests.postgres_server import PostgresServer

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
pytestmark = unless("" if PROGRAM else "needs pgbouncer (apt-get install pgbouncer)")


async def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(20):
        while True:
            assert process.poll() is None, "pgbouncer ended"
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Return who has signed PgBouncer's certificate for `localhost`."""
    return trustme.CA()


@pytest.fixture(scope="session")
def pgbouncer(
    postgres: PostgresServer, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """Run PgBouncer in front of the tests' PostgreSQL, with two connections to it; return its port."""
    assert PROGRAM
    folder = postgres.folder.parent / "pgbouncer"
    folder.mkdir()
    port = free_port()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "pair.pem")
    (folder / "users.txt").write_text('"postgres" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"""
[databases]
postgres = host=127.0.0.1 port={postgres.port} dbname=postgres user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users.txt
pool_mode = transaction
default_pool_size = 2
max_client_conn = 200
client_tls_sslmode = allow
client_tls_key_file = {folder}/pair.pem
client_tls_cert_file = {folder}/pair.pem
"""
    )
    for file in folder.iterdir():
        file.chmod(0o644)
    as_nobody = {"user": 65534, "group": 65534, "extra_groups": []} if not os.geteuid() else {}
    with subprocess.Popen(
        [PROGRAM, folder / "pgbouncer.ini"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **as_nobody
    ) as process:  # type: ignore[call-overload]  # of a dict's arguments mypy knows no types
        asyncio.run(_wait_for(port, process))
        yield port
        process.kill()


@pytest.fixture
def url(postgres: PostgresServer, pgbouncer: int) -> str:
    """Return the URL of an empty database, through PgBouncer."""
    new_url(postgres)
    return f"postgresql://postgres@127.0.0.1:{pgbouncer}/postgres?pgbouncer=true"


class TestContract(OutboxContract):
    """The contract, through PgBouncer."""


class TestLimitsContract(LimitsContract):
    """The contract of the limits, through PgBouncer."""


async def test_several_processes_share_few_connections(open_outbox: Open) -> None:
    """Whatever each transaction gets, statements belong to it."""
    outboxes = [await open_outbox() for _ in range(5)]
    puts = [one.put(message()) for one in outboxes for _ in range(40)]
    await asyncio.gather(*puts)
    assert len(await outboxes[0].find(limit=1000)) == 200


async def test_with_a_direct_url_a_process_is_woken(postgres: PostgresServer, open_outbox: Open) -> None:
    """By one that stores through PgBouncer; without the URL it does not listen."""
    first, polling, woken = await open_outbox(), await open_outbox(), await open_outbox(listen_url=postgres.dsn())
    async with asyncio.timeout(10):
        await woken.woken()  # it listens
    listeners = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
    assert (await asyncio.to_thread(postgres.psql, listeners)).strip() == "1"
    async with asyncio.timeout(10):
        await first._database.rows(NOTIFY, "first")
        await woken.woken()
    assert not polling._wakeups._woken.is_set()


@pytest.fixture
def secure(pgbouncer: int, url: str, authority: trustme.CA, tmp_path: Path) -> str:
    """Return the URL over TLS, verified by the authority's certificate."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    options = f"pgbouncer=true&sslmode=verify-full&sslrootcert={tmp_path / 'ca.pem'}"
    return f"postgresql://postgres@localhost:{pgbouncer}/postgres?{options}"


async def test_the_certificate_and_its_name_are_verified(open_outbox: Open, secure: str, tmp_path: Path) -> None:
    """As libpq's `sslmode=verify-full` says."""
    outbox: PostgresOutbox = await open_outbox(secure)
    assert (await outbox.put(message())).fresh
    with pytest.raises(CannotKeep, match=r"(?i)certificate"):
        await open_outbox(secure.replace("@localhost", "@127.0.0.1"))
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    with pytest.raises(CannotKeep, match=r"(?i)certificate"):
        await open_outbox(secure)
