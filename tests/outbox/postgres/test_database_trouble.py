"""Without its database, or with one that refuses or hangs, the outbox keeps nothing and says so in time."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from mailroom.errors import CannotKeep, OutboxError
from mailroom.message import Attempt, State
from mailroom.outbox import Lease, Settlement
from mailroom.outbox.postgres import claims, leases
from mailroom.outbox.postgres.database_pool import Connection
from mailroom.outbox.postgres.postgres_engine import PostgresOutbox
from tests.clock import START, FakeClock
from tests.outbox.contract import claim, message
from tests.outbox.limits_contract import put_all
from tests.outbox.postgres.conftest import Open
from tests.postgres_server import PostgresServer

_WITHIN = 3.5
"""Seconds; 2 by the outbox, the rest for a busy machine."""


async def _refused(doing: Awaitable[object]) -> None:
    began = time.monotonic()
    with pytest.raises(CannotKeep):
        await doing
    assert time.monotonic() - began < _WITHIN


async def _recovers(outbox: PostgresOutbox) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                assert (await outbox.put(message())).fresh
            except CannotKeep:
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_read_only_database_refuses_until_it_can_be_written(
    open_outbox: Open, postgres: PostgresServer
) -> None:
    """As a primary that was demoted; reading goes on."""
    outbox = await open_outbox()
    one = message()
    await outbox.put(one)
    postgres.psql("ALTER ROLE postgres SET default_transaction_read_only = on")
    try:
        await outbox._database._pool.expire_connections()
        await _refused(outbox.put(message()))
    finally:
        postgres.psql("ALTER ROLE postgres RESET default_transaction_read_only")
    await _recovers(outbox)
    assert await outbox.get(one.id)


@pytest.mark.parametrize("sqlstate", ["53100", "53200", "58030", "57P01", "XX001", "42501"])
async def test_errors_of_the_server_refuse_all_that_was_to_be_stored(
    open_outbox: Open, postgres: PostgresServer, sqlstate: str
) -> None:
    """Full disk, no memory, failing disk, shutdown, corruption, missing rights: raised by a trigger."""
    outbox = await open_outbox()
    postgres.psql(
        f"""CREATE FUNCTION mailroom.fail() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '{sqlstate}'; END $$;
            CREATE TRIGGER fail BEFORE INSERT ON mailroom.messages EXECUTE FUNCTION mailroom.fail()"""
    )
    results = await put_all(outbox, [message() for _ in range(20)])
    assert all(isinstance(result, CannotKeep) for result in results)
    assert sqlstate in str(results[0])
    postgres.psql("DROP TRIGGER fail ON mailroom.messages")
    await _recovers(outbox)
    assert len(await outbox.find()) == 1


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
async def test_a_transaction_that_loses_against_another_is_repeated(
    open_outbox: Open, postgres: PostgresServer, sqlstate: str
) -> None:
    """Serialization failures and deadlocks, twice."""
    outbox = await open_outbox()
    postgres.psql(
        f"""CREATE SEQUENCE mailroom.tries;
            CREATE FUNCTION mailroom.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF nextval('mailroom.tries') <= 2 THEN RAISE EXCEPTION 'again' USING ERRCODE = '{sqlstate}'; END IF;
                RETURN NEW; END $$;
            CREATE TRIGGER fail BEFORE INSERT ON mailroom.messages EXECUTE FUNCTION mailroom.fail()"""
    )
    assert (await outbox.put(message())).fresh
    assert len(await outbox.find()) == 1


async def test_a_locked_table_refuses_in_time(open_outbox: Open, url: str) -> None:
    """As during somebody's VACUUM FULL."""
    outbox, other = await open_outbox(), await open_outbox()
    locked, done = asyncio.Event(), asyncio.Event()

    async def lock(connection: object) -> None:
        await connection.execute("LOCK TABLE mailroom.messages IN ACCESS EXCLUSIVE MODE")  # type: ignore[attr-defined]  # asyncpg's
        locked.set()
        await done.wait()

    locking = asyncio.create_task(other._database.run(lock, seconds=60))
    await locked.wait()
    await _refused(outbox.put(message()))
    done.set()
    await locking
    await _recovers(outbox)


class Hole:
    """A proxy in front of the database that can stop to forward, without closing anything."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> int:
        """Listen; return the port."""
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def swallow(self) -> None:
        """Forward nothing from now on."""
        self._open.clear()

    def heal(self) -> None:
        """Forward again, also what was swallowed."""
        self._open.set()

    async def close(self) -> None:
        """End all connections."""
        assert self._server
        self._server.close()
        self._open.set()
        for writer in self._writers:
            writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, upstream_writer]
        await asyncio.gather(self._copy(reader, upstream_writer), self._copy(upstream_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while octets := await reader.read(65536):
                await self._open.wait()
                writer.write(octets)
                await writer.drain()
        except OSError:
            pass
        writer.close()


@pytest.fixture
async def hole(postgres: PostgresServer, url: str) -> AsyncIterator[tuple[Hole, str]]:
    """Return a proxy, and the database's URL through it."""
    proxy = Hole(postgres.port)
    port = await proxy.start()
    yield proxy, url.replace(str(postgres.port), str(port))
    await proxy.close()


async def test_a_database_that_does_not_answer_refuses_in_time(
    open_outbox: Callable[..., Awaitable[PostgresOutbox]], hole: tuple[Hole, str]
) -> None:
    """All that wait, however many; then everything goes on, and nothing that was refused stays leased to nobody."""
    proxy, through = hole
    outbox = await open_outbox(through)
    kept = message()
    await outbox.put(kept, lease=Lease("main", 300))
    proxy.swallow()
    began = time.monotonic()
    puts = asyncio.gather(
        *(outbox.put(message(), lease=Lease("main", 300)) for _ in range(300)), return_exceptions=True
    )
    assert all(isinstance(result, CannotKeep) for result in await puts)
    assert time.monotonic() - began < _WITHIN
    await _refused(outbox.settle(Settlement(kept.id, State.SENT, ())))
    proxy.heal()
    await _recovers(outbox)
    assert (await outbox.settle(Settlement(kept.id, State.SENT, ()))).is_recorded
    await outbox._leases.beat()
    assert await outbox.find(state=State.SENDING) == []


async def test_a_connection_that_is_silent_is_replaced_and_wakes_again(
    open_outbox: Open, clock: FakeClock, hole: tuple[Hole, str]
) -> None:
    """The one for wake-ups, which nothing is sent on otherwise: its peer may have vanished without a FIN."""
    proxy, through = hole
    with capture_logs() as logged:
        outbox = await open_outbox(listen_url=through)
        async with asyncio.timeout(_WITHIN):
            await outbox.woken()  # it listens
        proxy.swallow()
        async with asyncio.timeout(_WITHIN):
            while not logged:
                await clock.advance(5)
        assert not outbox._wakeups._woken.is_set()
        proxy.heal()
        async with asyncio.timeout(_WITHIN):
            while not outbox._wakeups._woken.is_set():
                await clock.advance(5)
    assert {line["event"] for line in logged} == {"outbox.not_woken"}


async def test_a_url_for_wakeups_that_is_refused_is_logged_once(open_outbox: Open, clock: FakeClock) -> None:
    """However often it is tried again; mails are stored all the same."""
    refused = 0

    def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal refused
        refused += 1
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, asyncio.timeout(20):
        with capture_logs() as logged:
            outbox = await open_outbox(listen_url=f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable")
            assert (await outbox.put(message())).fresh
            while refused < 3:
                await clock.advance(5)
    assert [line["event"] for line in logged] == ["outbox.not_woken"]


async def test_connections_that_are_cut_again_and_again_lose_nothing(
    open_outbox: Open, postgres: PostgresServer
) -> None:
    """As in a failover: what was acknowledged is there, once; what was refused is there once or not at all."""
    outbox, acknowledged, refused = await open_outbox(), set[str](), set[str]()
    ended = asyncio.Event()

    async def write() -> None:
        while not ended.is_set():
            one = message()
            try:
                await outbox.put(one)
                acknowledged.add(one.id)
            except CannotKeep:
                refused.add(one.id)

    writers = [asyncio.create_task(write()) for _ in range(8)]
    for _ in range(5):
        cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'mailroom'"
        await asyncio.to_thread(postgres.psql, cut)
    ended.set()
    await asyncio.gather(*writers)
    stored = [record.id for record in await outbox.find(limit=100_000)]
    assert acknowledged <= set(stored)
    assert len(stored) == len(set(stored))
    assert set(stored) <= acknowledged | refused


async def test_a_statement_that_takes_too_long_costs_no_connection(open_outbox: Open) -> None:
    """The server ends the statement; what others do goes on."""
    outbox = await open_outbox()
    select = "SELECT pg_backend_pid()"
    [(before,)] = await outbox._database.rows(select)
    with pytest.raises(CannotKeep, match="57014"):
        await outbox._database.rows("SELECT pg_sleep(10)")
    assert [tuple(row) for row in await outbox._database.rows(select)] == [(before,)]


async def test_opening_a_database_that_does_not_answer_fails_in_time(open_outbox: Open, hole: tuple[Hole, str]) -> None:
    """The server then listens and answers 503."""
    proxy, through = hole
    proxy.swallow()
    await _refused(open_outbox(through))


async def test_opening_without_a_database_says_why(open_outbox: Open, url: str) -> None:
    with pytest.raises(OutboxError, match="cannot be used"):
        await open_outbox("postgresql://postgres@127.0.0.1:9/postgres")
    with pytest.raises(OutboxError, match="3D000"):
        await open_outbox(f"{url}_missing")


async def test_of_several_hosts_the_one_that_can_store_is_used(open_outbox: Open, postgres: PostgresServer) -> None:
    """Whichever comes first."""
    outbox = await open_outbox(f"postgresql://postgres@127.0.0.1:9,127.0.0.1:{postgres.port}/postgres")
    assert (await outbox.put(message())).fresh


async def test_commits_are_durable_although_the_role_says_otherwise(
    open_outbox: Open, postgres: PostgresServer
) -> None:
    """`synchronous_commit = off` acknowledges what a crash of the database loses; a stronger one stays."""
    for configured, used in (("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")):
        postgres.psql(f"ALTER ROLE postgres SET synchronous_commit = {configured}")
        try:
            outbox = await open_outbox()
            [(value,)] = await outbox._database.rows("SELECT current_setting('synchronous_commit')")
            assert value == used
        finally:
            postgres.psql("ALTER ROLE postgres RESET synchronous_commit")


async def test_a_crash_of_the_database_loses_nothing(open_outbox: Open, postgres: PostgresServer) -> None:
    """Of what was acknowledged, with outcomes."""
    outbox = await open_outbox()
    waiting, sent = message(), message()
    await outbox.put(waiting)
    await outbox.put(sent, lease=Lease("main", 300))
    await outbox.settle(Settlement(sent.id, State.SENT, ()))
    await asyncio.to_thread(postgres.stop, "immediate")
    await asyncio.to_thread(postgres.start)
    await _recovers(outbox)
    assert waiting.id in {one.message.id for one in (await claim(outbox, START)).leased}
    record = await outbox.get(sent.id)
    assert record
    assert record.state is State.SENT


async def test_only_a_claim_is_not_waited_for(open_outbox: Open) -> None:
    """What it leases is due again after a crash: a message in the outbox is not lost."""

    async def lease(connection: Connection) -> str:
        assert await connection.fetch(claims._LEASE, 0, START, 1, (), True, "owner", START + 300)
        shown: str = await connection.fetchval("SHOW synchronous_commit")
        return shown

    outbox = await open_outbox()
    await outbox.put(message())
    leasing = await outbox._database.run(lease)
    [(after,)] = await outbox._database.rows("SHOW synchronous_commit")
    assert (leasing, after) == ("off", "on")


async def test_a_message_whose_lease_a_crash_has_undone_is_sent_by_one_process(
    open_outbox: Open, postgres: PostgresServer
) -> None:
    """Either the process that had leased it, or another one: an attempt is recorded first, and that is waited for."""
    outbox, other = await open_outbox(), await open_outbox()
    one = message()
    await outbox.put(one)
    assert (await claim(outbox, START)).leased
    await asyncio.to_thread(postgres.stop, "immediate")
    await asyncio.to_thread(postgres.start)
    await _recovers(other)
    may_send = await outbox.attempt(one.id, (Attempt("main", START),))
    taken = {leased.message.id for leased in (await claim(other, START)).leased}
    assert (one.id in taken) is not may_send


def test_leases_outlive_the_wait_for_the_database() -> None:
    """A beat may fail once by a time-out without anybody else taking over."""
    assert leases.ALIVE_SECONDS > 2 * leases._BEAT_SECONDS + 2
