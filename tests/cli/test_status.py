"""`mailroom status`."""

import json
import time

from mailroom.message import Priority
from mailroom.outbox import Depth
from tests.cli.conftest import FakeOutbox, Operator, Server


def test_status_counts_waiting_and_held_messages(operator: Operator, outbox: FakeOutbox) -> None:
    outbox.waiting = {Priority.CODE: Depth(3, time.time() - 90)}
    outbox.held_counts = {"misconfigured": 2}
    report = json.loads(operator.run("status", "--json").output)
    assert report["server"] == "not reachable"
    assert report["held"] == {"misconfigured": 2}
    assert 90 <= report["waiting"]["code"].pop("oldest_seconds") < 150
    assert report["waiting"] == {
        "code": {"messages": 3},
        "invitation": {"messages": 0, "oldest_seconds": None},
        "event": {"messages": 0, "oldest_seconds": None},
    }


def test_status_is_printed_for_people(operator: Operator, outbox: FakeOutbox) -> None:
    outbox.waiting = {Priority.CODE: Depth(3, time.time() - 7300)}
    outbox.held_counts = {"misconfigured": 2}
    result = operator.run("status")
    assert result.exit_code == 0
    assert "server: not reachable" in result.output
    assert "2 h" in result.output
    assert "misconfigured" in result.output


def test_status_queries_readyz(operator: Operator, server: Server) -> None:
    assert json.loads(operator.run("status", "--json").output)["server"] == "ready"
    server.status = 503
    assert json.loads(operator.run("status", "--json").output)["server"] == "starting or draining"
