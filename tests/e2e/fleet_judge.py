"""Judges a run of the fleet: a pure function of the outbox's records and of the mails that reached the servers."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil

from mailroom.message import Attempt, Outcome, State
from mailroom.outbox import Record

_TOLERANCE = 1.0
"""Seconds in which a busy SMTP server may work off what is in its socket after the client has given up."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A mail that a server had in full."""

    server: str
    id: str
    """The message's id, taken from the Message-ID."""
    at: float
    """Unix seconds."""
    is_dropped: bool = False
    """Whether the server lied: it answered 250 and threw the mail away."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the codes."""

    accepted: int
    """Answered by 200."""
    rate: float
    """The same a second."""
    seconds: tuple[float, ...]
    """From acceptance to hand-over, sorted; of those that were handed over."""
    failed_over: int
    """Handed over after another attempt had failed."""
    superseded: int
    """Not sent, because a newer code was."""
    outcomes: Mapping[str, int]
    """How many attempts ended so."""
    duplicates: int
    """Mails that arrived although their message had arrived before."""
    dropped: int
    """Mails that a lying server threw away."""
    faults: Mapping[str, tuple[str, ...]]
    """What must not be → message ids; empty: every promise was kept."""

    def __str__(self) -> str:
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        told = (
            f"{self.accepted} codes, {self.rate:.0f}/s, handed over after {1000 * self.percentile(50):.1f} ms (p50), "
            f"{1000 * self.percentile(99):.1f} ms (p99), {1000 * self.percentile(100):.1f} ms (slowest); "
            f"{self.failed_over} failed over, {self.superseded} superseded, {self.duplicates} duplicates, "
            f"{self.dropped} thrown away by a server; "
            f"attempts: {outcomes}"
        )
        return "\n".join([told, *(f"{len(ids)} {fault}: {', '.join(ids[:5])}" for fault, ids in self.faults.items())])

    def percentile(self, percent: float) -> float:
        """Return the seconds in which so many percent of the codes were handed over."""
        return self.seconds[max(0, ceil(len(self.seconds) * percent / 100) - 1)] if self.seconds else 0.0


def judge(
    accepted: Collection[str], records: Sequence[Record], arrivals: Sequence[Arrival], *, rate: float = 0.0
) -> Verdict:
    """Compare what was promised (ids, so many a second) with what was recorded, and that with what arrived."""
    by_id = {record.id: record for record in records}
    arrived: dict[str, list[Arrival]] = defaultdict(list)
    for arrival in arrivals:
        arrived[arrival.id].append(arrival)
    sent = [record for record in records if record.state is State.SENT]
    faults = {
        "lost": [id_ for id_ in accepted if id_ not in by_id or by_id[id_].state not in {State.SENT, State.SUPERSEDED}],
        "expired": [record.id for record in records if record.state is State.EXPIRED],
        "sent too late": [record.id for record in sent if _ended_at(record.attempts[-1]) > record.expires_at],
        "sent, and never arrived": [record.id for record in sent if record.id not in arrived],
        "arrived without an attempt": [one.id for one in arrivals if not _is_recorded(one, by_id.get(one.id))],
        "sent twice without an uncertain attempt": [
            id_ for id_, mails in arrived.items() if id_ in by_id and len(mails) - 1 > _uncertain(by_id[id_])
        ],
        "sent after its successor": list(_overtaken(records)),
    }
    return Verdict(
        accepted=len(accepted),
        rate=rate,
        seconds=tuple(sorted(_ended_at(record.attempts[-1]) - record.created_at for record in sent)),
        failed_over=sum(len(record.attempts) > 1 for record in sent),
        superseded=sum(record.state is State.SUPERSEDED for record in records),
        outcomes=Counter(str(attempt.outcome) for record in records for attempt in record.attempts),
        duplicates=sum(len(mails) - 1 for mails in arrived.values()),
        dropped=sum(arrival.is_dropped for arrival in arrivals),
        faults={fault: tuple(ids) for fault, ids in faults.items() if ids},
    )


def _ended_at(attempt: Attempt) -> float:
    return attempt.started_at + (attempt.duration_seconds or 0.0)


def _uncertain(record: Record) -> int:
    return sum(attempt.outcome is Outcome.UNCERTAIN for attempt in record.attempts)


def _is_recorded(arrival: Arrival, record: Record | None) -> bool:
    """Whether an attempt by this server was under way when the mail arrived."""
    return record is not None and any(
        attempt.provider == arrival.server
        and attempt.started_at <= arrival.at + _TOLERANCE
        and arrival.at <= _ended_at(attempt) + _TOLERANCE
        for attempt in record.attempts
    )


def _overtaken(records: Sequence[Record]) -> Iterator[str]:
    """Yield the codes of which an attempt began after the acceptance of a newer one had been recorded.

    Older and newer: for the same recipient and template; the load has one application and one ip.
    """
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.id):
        groups[record.recipient, record.template].append(record)
    for group in groups.values():
        for older, newer in combinations(group, 2):
            if newer.state is State.SENT and newer.settled_at is not None:
                yield from (older.id for attempt in older.attempts if attempt.started_at > newer.settled_at)
