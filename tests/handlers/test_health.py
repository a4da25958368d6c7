"""The endpoints for the platform and Prometheus."""

from mailroom.metrics import Metrics
from mailroom.outbox import HELD_FLOOD
from tests.handlers.serving import Running, served


def _value(server: Running, sample: str) -> float:
    text = server.ask("GET", "/metrics").body.decode()
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{sample} "))


def test_a_running_server_is_alive_and_ready(server: Running) -> None:
    assert server.ask("GET", "/livez").status == 200
    assert server.ask("GET", "/readyz").status == 200


def test_it_is_not_ready_while_it_starts_or_drains(server: Running) -> None:
    server.readiness.started = False
    assert server.ask("GET", "/readyz").status == 503
    server.readiness.started, server.readiness.draining = True, True
    assert server.ask("GET", "/readyz").status == 503
    assert server.ask("GET", "/livez").status == 200
    server.readiness.draining = False


def test_a_failing_outbox_does_not_make_it_unready(server: Running) -> None:
    server.parts.full = server.parts.silent = True
    assert server.ask("GET", "/readyz").status == 200


def test_metrics_show_what_waits_and_what_is_held(server: Running) -> None:
    server.email(b'{"to": "ada@example.com", "payload": {"code": "1"}}')
    server.clock.set(server.clock.now() + 5)
    assert _value(server, 'mailroom_queued{priority="code"}') == 1
    assert _value(server, 'mailroom_queued_oldest_seconds{priority="code"}') == 5
    assert _value(server, 'mailroom_queued{priority="event"}') == 0
    assert _value(server, 'mailroom_held{reason="misconfigured"}') == 2
    assert _value(server, 'mailroom_held{reason="other"}') == 1
    assert _value(server, "mailroom_free_bytes") == 4096
    assert _value(server, "mailroom_draining") == 0


def test_a_held_flood_of_events_has_a_label_of_its_own() -> None:
    """An operator releases it; the others are repaired."""
    metrics = Metrics()
    metrics.observe_outbox({}, {HELD_FLOOD: 7}, None, 0.0)
    assert b'mailroom_held{reason="flood"} 7.0' in metrics.text()


def test_metrics_respond_while_the_outbox_does_not(server: Running) -> None:
    server.parts.silent = True
    assert b"mailroom_accept_seconds" in server.ask("GET", "/metrics").body


def test_metrics_need_the_token_if_there_is_one() -> None:
    with served(metrics_token="s3cret") as server:
        refused = server.ask("GET", "/metrics")
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert server.ask("GET", "/metrics", authorization="Bearer \xe4").status == 401
        assert server.ask("GET", "/metrics", authorization="Bearer s3cret").status == 200
        assert server.ask("GET", "/livez").status == 200


def test_a_worker_has_the_health_endpoints_only() -> None:
    with served(role="worker") as server:
        assert server.ask("GET", "/readyz").status == 200
        assert server.email(b"{}").status == 404
        assert server.ask("GET", "/console/captured").status == 404


def test_an_empty_queue_has_age_zero() -> None:
    metrics = Metrics()
    metrics.observe_outbox({}, {}, None, 1000.0)
    text = metrics.text().decode()
    assert 'mailroom_queued_oldest_seconds{priority="code"} 0.0' in text
    assert "mailroom_free_bytes NaN" in text
