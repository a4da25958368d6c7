"""What the platform and Prometheus ask."""

from mailroom.metrics import Metrics
from tests.handlers.serving import Endpoints, served


def _value(doors: Endpoints, sample: str) -> float:
    text = doors.ask("GET", "/metrics").body.decode()
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{sample} "))


def test_a_running_server_is_alive_and_ready(doors: Endpoints) -> None:
    assert doors.ask("GET", "/livez").status == 200
    assert doors.ask("GET", "/readyz").status == 200


def test_it_is_not_ready_while_it_starts_or_drains(doors: Endpoints) -> None:
    doors.standing.started = False
    assert doors.ask("GET", "/readyz").status == 503
    doors.standing.started, doors.standing.draining = True, True
    assert doors.ask("GET", "/readyz").status == 503
    assert doors.ask("GET", "/livez").status == 200
    doors.standing.draining = False


def test_trouble_with_the_outbox_is_no_reason_to_be_unready(doors: Endpoints) -> None:
    doors.parts.full = doors.parts.silent = True
    assert doors.ask("GET", "/readyz").status == 200


def test_metrics_show_what_waits_and_what_is_held(doors: Endpoints) -> None:
    doors.email(b'{"to": "ada@example.com", "payload": {"code": "1"}}')
    doors.clock.set(doors.clock.now() + 5)
    assert _value(doors, 'mailroom_queued{priority="code"}') == 1
    assert _value(doors, 'mailroom_queued_oldest_seconds{priority="code"}') == 5
    assert _value(doors, 'mailroom_queued{priority="event"}') == 0
    assert _value(doors, 'mailroom_held{reason="misconfigured"}') == 2
    assert _value(doors, 'mailroom_held{reason="other"}') == 1
    assert _value(doors, "mailroom_free_bytes") == 4096
    assert _value(doors, "mailroom_draining") == 0


def test_metrics_answer_while_the_outbox_does_not(doors: Endpoints) -> None:
    doors.parts.silent = True
    assert b"mailroom_accept_seconds" in doors.ask("GET", "/metrics").body


def test_metrics_ask_for_the_token_if_there_is_one() -> None:
    with served(metrics_token="s3cret") as doors:
        refused = doors.ask("GET", "/metrics")
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert doors.ask("GET", "/metrics", authorization="Bearer \xe4").status == 401
        assert doors.ask("GET", "/metrics", authorization="Bearer s3cret").status == 200
        assert doors.ask("GET", "/livez").status == 200


def test_a_worker_listens_for_health_only() -> None:
    with served(role="worker") as doors:
        assert doors.ask("GET", "/readyz").status == 200
        assert doors.email(b"{}").status == 404
        assert doors.ask("GET", "/console/captured").status == 404


def test_a_queue_that_is_empty_has_no_age() -> None:
    metrics = Metrics()
    metrics.observe_outbox({}, {}, None, 1000.0)
    text = metrics.text().decode()
    assert 'mailroom_queued_oldest_seconds{priority="code"} 0.0' in text
    assert "mailroom_free_bytes NaN" in text
