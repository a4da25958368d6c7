"""`mailroom outbox retry|cancel|prune`, `mailroom pause|resume`, with the real outbox that a server has open."""

import asyncio
import json
import re
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mailroom.cli import operator_commands
from mailroom.cli.context import mailroom
from mailroom.clock import SystemClock
from mailroom.message import Message, Priority, State, new_id
from mailroom.outbox import HELD_EXHAUSTED, HELD_MISCONFIGURED, HELD_OPERATOR, RELEASED_AT_START, Lease, Settlement
from mailroom.outbox.sqlite.backup import backup
from mailroom.outbox.sqlite.engine import SqliteOutbox
from tests.cli.conftest import SETTINGS

KEY = "0123456789012345678901234567890123456789"


class Serving:
    """The outbox as a server has it open."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._clock = SystemClock()
        self._number = 0
        opening = SqliteOutbox.open(Path("data/mailroom.db"), secret_keys=[KEY], clock=self._clock)
        self._outbox = runner.run(opening)

    def put(self, state: State, *, age: float = 0.0, lifetime: float = 600.0, reason: str = HELD_EXHAUSTED) -> str:
        """Store a message that goes to this state; return its id."""
        now = self._clock.now() - age
        self._number += 1
        id_ = new_id(now + self._number / 1000, bytes(10))
        message = Message(id_, "SignIn", Priority.CODE, "ada@example.com", {"code": "271828"}, now, now + lifetime)
        self._runner.run(self._outbox.put(message, lease=None if state is State.QUEUED else Lease("main", 300)))
        if state not in {State.QUEUED, State.SENDING}:
            self._runner.run(self._outbox.settle(Settlement(id_, state, (), reason=reason)))
        return id_

    def state(self, id_: str) -> State | None:
        """Return a message's state; None: it was deleted."""
        record = self._runner.run(self._outbox.get(id_))
        return record.state if record else None

    def close(self) -> None:
        """Close the file."""
        self._runner.run(self._outbox.close())


@pytest.fixture
def serving() -> Iterator[Serving]:
    with asyncio.Runner() as runner:
        serving = Serving(runner)
        yield serving
        serving.close()


def run(*words: str, answer: str | None = None) -> Result:
    """Run a command; `answer` is what the operator types."""
    return CliRunner().invoke(mailroom, words, input=answer)


def test_retry_queues_held_messages(serving: Serving) -> None:
    """By ids or by what they begin with; one that is named twice counts once."""
    held = [serving.put(State.HELD) for _ in range(2)]
    result = run("outbox", "retry", held[0], held[1][:13], held[0])
    assert (result.exit_code, result.output) == (0, "2 messages are retried.\n")
    assert [serving.state(id_) for id_ in held] == [State.QUEUED, State.QUEUED]


def test_retry_refuses_what_cannot_be_sent_any_more(serving: Serving) -> None:
    """With a sentence for each reason; the rest is retried."""
    held, sending, sent = [serving.put(state) for state in (State.HELD, State.SENDING, State.SENT)]
    expired = serving.put(State.HELD, age=60, lifetime=30)
    result = run("outbox", "retry", held, sending, sent, expired)
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "1 message is retried.",
        f"Not retried: {expired[:13]}: it has expired: its lifetime is over",
        f"Not retried: {sending[:13]}: it is being sent at this moment, and cannot be recalled",
        f"Not retried: {sent[:13]}: it is settled (sent): only queued and held messages can be retried",
    ]
    assert serving.state(expired) is State.HELD
    report = json.loads(run("outbox", "retry", held, sent, "--json").output)
    assert report["retried"] == [held]
    assert [(one["id"], one["state"]) for one in report["refused"]] == [(sent, "sent")]


def test_all_messages_in_a_state_are_counted_before_they_are_retried(serving: Serving) -> None:
    """And the operator is asked."""
    held = [serving.put(State.HELD) for _ in range(3)]
    queued = serving.put(State.QUEUED)
    result = run("outbox", "retry", "--state", "held", "--all", answer="n\n")
    assert result.exit_code == 1
    assert result.output.startswith("3 messages are held, and will be retried. Continue? [y/N]: n\n")
    assert {serving.state(id_) for id_ in held} == {State.HELD}
    assert "3 messages are retried." in run("outbox", "retry", "--state", "held", "--all", answer="y\n").output
    assert {serving.state(id_) for id_ in (*held, queued)} == {State.QUEUED}
    result = run("outbox", "cancel", "--state", "queued", "--all", "--yes", "--json")
    assert (result.exit_code, len(json.loads(result.output)["cancelled"])) == (0, 4)
    assert run("outbox", "retry", "--state", "held", "--all").output == "0 messages are retried.\n"


def test_many_messages_are_changed_in_steps(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a server can write in between."""
    monkeypatch.setattr(operator_commands, "_STEP", 2)
    monkeypatch.setattr(operator_commands, "_PAUSE_SECONDS", 0)
    held = [serving.put(State.HELD) for _ in range(5)]
    assert run("outbox", "retry", "--state", "held", "--all", "--yes").output == "5 messages are retried.\n"
    assert {serving.state(id_) for id_ in held} == {State.QUEUED}


@pytest.mark.parametrize(
    "words", ["", "--all", "--state held", "0192 --all", "0192 --state held", "--state sent --all"]
)
@pytest.mark.parametrize("command", ["retry", "cancel"])
def test_messages_are_named_or_selected_by_their_state(command: str, words: str) -> None:
    assert run("outbox", command, *words.split()).exit_code == 2


def test_cancel_ends_messages_unsent(serving: Serving) -> None:
    """It says so of one that is on the wire."""
    queued, sending = serving.put(State.QUEUED), serving.put(State.SENDING)
    result = run("outbox", "cancel", queued, sending)
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "1 message is cancelled.",
        f"Not cancelled: {sending[:13]}: it is being sent at this moment, and cannot be recalled",
    ]
    assert (serving.state(queued), serving.state(sending)) == (State.CANCELLED, State.SENDING)


@pytest.mark.parametrize("command", ["retry", "cancel", "show"])
def test_an_ambiguous_id_changes_nothing(serving: Serving, command: str) -> None:
    """Nor does an unknown or an empty one."""
    held = [serving.put(State.HELD) for _ in range(2)]
    for word, problem in ((held[0][:5], "more than one id begins with"), ("ff", "there is no message ff"), ("", "no")):
        result = run("outbox", command, word)
        assert result.exit_code == 1
        assert problem in result.output
    assert {serving.state(id_) for id_ in held} == {State.HELD}


def test_listed_ids_name_one_message_each(serving: Serving) -> None:
    ids = [serving.put(State.SENT) for _ in range(3)]
    short = [line.split()[0] for line in run("outbox", "list").output.splitlines()[1:]]
    assert [json.loads(run("outbox", "show", id_, "--json").output)["id"] for id_ in short] == ids[::-1]


def test_prune_deletes_old_records_of_settled_messages(serving: Serving) -> None:
    """It shows how many, and asks."""
    old = [serving.put(State.SENT, age=7200) for _ in range(2)]
    kept = [serving.put(State.SENT), serving.put(State.QUEUED, age=7200, lifetime=9000)]
    result = run("outbox", "prune", "--before", "1h", answer="n\n")
    assert result.exit_code == 1
    assert result.output.startswith("2 messages are settled and older, and will be deleted. Continue?")
    assert run("outbox", "prune", "--before", "1h", "--yes").output == "2 messages are deleted.\n"
    assert [serving.state(id_) for id_ in (*old, *kept)] == [None, None, State.SENT, State.QUEUED]
    assert json.loads(run("outbox", "prune", "--before", "1h", "--json").output) == {"deleted": 0}
    assert run("outbox", "prune", "--before", "soon", "--yes").exit_code == 2
    assert run("outbox", "prune", "--yes").exit_code == 2


@pytest.mark.usefixtures("serving")
def test_a_provider_is_paused_and_resumed() -> None:
    """Twice is no error."""
    with Path("mailroom.toml").open("a") as file:
        file.write('[providers.backup]\ntype = "capture"\n')
    paused = run("pause", "backup")
    assert (paused.exit_code, paused.output) == (0, "backup is paused; servers notice within a second.\n")
    again = run("pause", "backup")
    assert (again.exit_code, again.output.startswith("backup was paused already, at ")) == (0, True)
    report = json.loads(run("pause", "main", "--json").output)
    assert (report["changed"], sorted(report["paused"])) == (True, ["backup", "main"])
    assert "backup is paused since" in run("outbox", "list").output
    resumed = run("resume", "backup")
    assert (resumed.exit_code, resumed.output) == (0, "backup is in use again; servers notice within a second.\n")
    assert (run("resume", "backup").exit_code, run("resume", "backup").output) == (0, "backup was not paused.\n")


@pytest.mark.usefixtures("serving")
def test_pausing_warns_if_no_provider_is_left() -> None:
    with Path("mailroom.toml").open("a") as file:
        file.write('[providers.backup]\ntype = "capture"\n[routes]\nWelcome = ["backup"]\n')
    assert "all providers of some routes are paused: Welcome. " in run("pause", "backup").output
    assert "all providers of some routes are paused: default, Welcome. " in run("pause", "main").output
    with Path("mailroom.toml").open("a") as file:
        file.write('[[overrides]]\nwhen = { organization = "org1" }\nproviders = ["backup"]\n')
    assert "Welcome, override for organization org1. " in run("pause", "main").output


@pytest.mark.usefixtures("serving")
@pytest.mark.parametrize("command", ["pause", "resume"])
def test_an_unknown_provider_is_an_error(command: str) -> None:
    """One that was paused before it was removed from the settings can be resumed."""
    result = run(command, "other")
    assert result.exit_code == 2
    assert "there is no provider 'other'; there are: main" in result.output
    run("pause", "main")
    Path("mailroom.toml").write_text(SETTINGS.replace("providers.main", "providers.other"))
    assert run("resume", "main").exit_code == 0


# Backup and restore


def test_hold_all_holds_what_a_start_would_release(serving: Serving) -> None:
    """Other held messages keep their reason."""
    released, exhausted = serving.put(State.HELD, reason=HELD_MISCONFIGURED), serving.put(State.HELD)
    assert run("outbox", "hold-all", "--yes").output == "2 messages are held.\n"
    reasons = [json.loads(run("outbox", "show", id_, "--json").output)["reason"] for id_ in (released, exhausted)]
    assert reasons == [HELD_OPERATOR, HELD_EXHAUSTED]


def test_hold_all_holds_what_waits_until_retry(serving: Serving) -> None:
    """What the running server is sending is refused; a restart releases nothing."""
    queued, sending, sent = [serving.put(state) for state in (State.QUEUED, State.SENDING, State.SENT)]
    result = run("outbox", "hold-all", answer="y\n")
    assert result.exit_code == 1
    assert "2 messages are not sent yet, and will be held. Continue?" in result.output
    assert "1 message is held." in result.output
    assert f"{sending[:13]}: it is being sent at this moment, and cannot be recalled" in result.output.replace(
        "\n", " "
    )
    assert [serving.state(id_) for id_ in (queued, sending, sent)] == [State.HELD, State.SENDING, State.SENT]
    assert json.loads(run("outbox", "show", queued, "--json").output)["reason"] == HELD_OPERATOR
    assert HELD_OPERATOR not in RELEASED_AT_START
    assert run("outbox", "retry", queued).exit_code == 0
    assert serving.state(queued) is State.QUEUED


def test_a_backup_of_an_outbox_in_use_is_restored_without_sending_again(serving: Serving, tmp_path: Path) -> None:
    """It has what was stored before; what was being sent is held too, for no server sends it."""
    queued, sending, sent = [serving.put(state) for state in (State.QUEUED, State.SENDING, State.SENT)]
    file = tmp_path / "backup.db"
    result = run("outbox", "backup", str(file))
    assert result.exit_code == 0
    assert re.fullmatch(r"[\d,]+ bytes are written to .*backup.db.\n", result.output)
    later = serving.put(State.QUEUED)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir() if "backup" in one.name] == ["backup.db"]
    assert b"ada@example.com" not in file.read_bytes()

    serving.close()
    for name in ("mailroom.db-wal", "mailroom.db-shm"):
        Path("data", name).unlink(missing_ok=True)
    file.replace("data/mailroom.db")
    assert json.loads(run("outbox", "hold-all", "--yes", "--json").output) == {"held": [queued, sending], "refused": []}
    assert {one["id"]: one["state"] for one in json.loads(run("outbox", "list", "--json").output)} == {
        queued: "held", sending: "held", sent: "sent"
    }  # fmt: skip
    assert run("outbox", "show", later).exit_code == 1
    assert run("outbox", "retry", sending).output == "1 message is retried.\n"


def test_backup_replaces_a_file_only_if_asked(serving: Serving, tmp_path: Path) -> None:
    """A target that cannot be written is told, and leaves nothing behind."""
    serving.put(State.QUEUED)
    file = tmp_path / "backup.db"
    file.write_text("something else")
    result = run("outbox", "backup", str(file))
    assert (result.exit_code, result.output) == (1, f"Error: {file} exists: --force replaces it\n")
    assert file.read_text() == "something else"
    assert run("outbox", "backup", str(file), "--force", "--json").exit_code == 0
    assert file.read_bytes().startswith(b"SQLite format 3")
    missing = tmp_path / "missing" / "backup.db"
    result = run("outbox", "backup", str(missing))
    assert result.exit_code == 1
    assert "cannot be written" in result.output


def test_a_backup_is_one_moment_while_the_server_writes(
    serving: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is stored during the copy is not in it, and does not make it begin again."""
    monkeypatch.setattr("mailroom.outbox.sqlite.backup._PAGES", 4)
    first = [serving.put(State.QUEUED) for _ in range(20)]
    steps: list[float] = []

    def store_more(percent: float) -> None:
        steps.append(percent)
        serving.put(State.QUEUED)

    backup(Path("data/mailroom.db"), tmp_path / "copy.db", store_more)
    assert len(steps) > 2
    assert sum(steps) >= 100
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert [id_ for (id_,) in copy.execute("SELECT id FROM messages ORDER BY number")] == first
