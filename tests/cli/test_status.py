"""`mailroom status`."""

import json
import time

from mailroom.message import Priority
from mailroom.outbox import Depth
from tests.cli.conftest import Operator, Server, Shelf


def test_status_tells_what_waits_and_what_is_held(operator: Operator, shelf: Shelf) -> None:
    shelf.waiting = {Priority.CODE: Depth(3, time.time() - 90)}
    shelf.on_hold = {"misconfigured": 2}
    told = json.loads(operator.run("status", "--json").output)
    assert told["server"] == "not reachable"
    assert told["held"] == {"misconfigured": 2}
    assert 90 <= told["waiting"]["code"].pop("oldest_seconds") < 150
    assert told["waiting"] == {
        "code": {"messages": 3},
        "invitation": {"messages": 0, "oldest_seconds": None},
        "event": {"messages": 0, "oldest_seconds": None},
    }


def test_status_for_people(operator: Operator, shelf: Shelf) -> None:
    shelf.waiting = {Priority.CODE: Depth(3, time.time() - 7300)}
    shelf.on_hold = {"misconfigured": 2}
    result = operator.run("status")
    assert result.exit_code == 0
    assert "server: not reachable" in result.output
    assert "2 h" in result.output
    assert "misconfigured" in result.output


def test_status_asks_the_server(operator: Operator, server: Server) -> None:
    assert json.loads(operator.run("status", "--json").output)["server"] == "ready"
    server.status = 503
    assert json.loads(operator.run("status", "--json").output)["server"] == "starting or draining"
