"""Examines the outbox's PostgreSQL: what an operator has to know before the machine is lost that it runs on."""

from typing import Any, Final

from mailroom.clock import Clock
from mailroom.doctor.check_results import CheckResult, good, wrong
from mailroom.errors import OutboxError
from mailroom.outbox.by_url import require_asyncpg

_OLDEST_VERSION: Final = 13
_LARGEST_SKEW_SECONDS: Final = 2.0

_SETTINGS: Final = """
    SELECT current_setting('server_version') AS version,
           current_setting('server_version_num')::integer / 10000 AS major,
           current_setting('TimeZone') AS time_zone,
           current_setting('autovacuum')::boolean AND current_setting('track_counts')::boolean AS vacuums,
           current_setting('fsync')::boolean AND current_setting('full_page_writes')::boolean AS syncs,
           (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit') AS synchronous_commit,
           current_setting('synchronous_standby_names') AS standby_names,
           current_user AS role,
           CASE WHEN to_regnamespace('mailroom') IS NULL
                THEN has_database_privilege(current_database(), 'CREATE')
                ELSE has_schema_privilege('mailroom', 'CREATE') END AS can_create,
           (SELECT coalesce(bool_and(has_table_privilege(pg_class.oid, 'SELECT') AND
                                     has_table_privilege(pg_class.oid, 'INSERT') AND
                                     has_table_privilege(pg_class.oid, 'UPDATE') AND
                                     has_table_privilege(pg_class.oid, 'DELETE')), true)
              FROM pg_class
             WHERE relnamespace = to_regnamespace('mailroom') AND relkind = 'r') AS can_write
"""

# Others than superusers and pg_monitor see that there are standbys, but not which are synchronous.
_STANDBYS: Final = """
    SELECT count(*) AS number,
           count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) AS synchronous,
           count(*) FILTER (WHERE sync_state IS NULL) AS hidden,
           extract(epoch FROM max(flush_lag))::float8 AS lag_seconds
      FROM pg_stat_replication
"""


async def check_database(url: str, clock: Clock) -> list[CheckResult]:
    """Examine a database; changes nothing."""
    try:
        require_asyncpg()
        from mailroom.outbox.postgres.database_pool import Database  # noqa: PLC0415 - asyncpg is an extra
        from mailroom.outbox.postgres.database_time import DatabaseTime, read_time  # noqa: PLC0415 - likewise

        database = await Database.create(url)
        try:
            [settings] = await database.rows(_SETTINGS)
            [standbys] = await database.rows(_STANDBYS)
            time = DatabaseTime(clock, read_time)
            await database.run(time.measure)
        finally:
            await database.close()
    except OutboxError as error:
        return [wrong("connection", str(error), "see docs/postgresql.md: the URL, and the rights of its user")]
    return [
        _check_version(settings),
        _check_rights(settings),
        good("time zone", f"{settings['time_zone']}; times are seconds since 1970, which no time zone changes"),
        check_skew(time.skew_seconds),
        _check_vacuum(settings),
        _check_commits(settings),
        check_failover(settings["standby_names"], **dict(standbys)),
    ]


def _check_version(settings: Any) -> CheckResult:
    if settings["major"] < _OLDEST_VERSION:
        return wrong("version", settings["version"], f"use PostgreSQL {_OLDEST_VERSION} or later")
    return good("version", settings["version"])


def _check_rights(settings: Any) -> CheckResult:
    role = settings["role"]
    if not settings["can_write"]:
        todo = f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA mailroom TO {role}"
        return wrong("rights", f"{role} may not write all tables", todo)
    if not settings["can_create"]:
        todo = "let it own the schema mailroom; before there is one: GRANT CREATE ON DATABASE"
        return wrong("rights", f"{role} may not create tables, which upgrades do", todo)
    return good("rights", f"{role} may write, and migrate the schema")


def check_skew(seconds: float) -> CheckResult:
    """Judge how far the database's clock is ahead of this machine's."""
    text = f"the database's clock is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} this machine's"
    if abs(seconds) > _LARGEST_SKEW_SECONDS:
        return wrong("clocks", text, "synchronize both by NTP; the database's decides what is due and has expired")
    return good("clocks", text)


def _check_vacuum(settings: Any) -> CheckResult:
    if not settings["vacuums"]:
        todo = "turn autovacuum and track_counts on: every mail leaves dead rows, and claims get slower with them"
        return wrong("autovacuum", "off", todo)
    return good("autovacuum", "on; the tables have settings of their own")


def _check_commits(settings: Any) -> CheckResult:
    mode = settings["synchronous_commit"]
    if not settings["syncs"]:
        return wrong("commits", "fsync or full_page_writes is off", "turn both on: a crash of the machine loses mails")
    if mode in {"off", "local"}:
        return good("commits", f"synchronous_commit is {mode}; Mailroom's transactions use on")
    return good("commits", f"synchronous_commit is {mode}")


def check_failover(
    standby_names: str, *, number: int, synchronous: int, hidden: int, lag_seconds: float | None
) -> CheckResult:
    """Say what would be lost with the primary: of `number` standbys so many are `synchronous`, so many `hidden`."""
    if standby_names and not (synchronous or hidden):
        text = "no synchronous standby is connected: every commit waits for one, and requests get a 503"
        return wrong("failover", text, "start one that synchronous_standby_names names, or empty that setting")
    if standby_names:
        which = f"{synchronous} synchronous" if synchronous else "a synchronous"
        return good("failover", f"to {which} standby: loses nothing that was acknowledged")
    if not number:
        text = "no standby is connected: what is not in a backup is lost with this database's disk"
        return good("failover", text, "a hosted database may have standbys that cannot be seen here: ask its operator")
    lag = "" if lag_seconds is None else f", {lag_seconds:.1f} s behind now"
    text = (
        f"{number} asynchronous standby{'s' if number > 1 else ''}{lag}: loses mails acknowledged in the last moments"
    )
    return good("failover", text, "synchronous_standby_names prevents that; each mail then waits for a standby")
