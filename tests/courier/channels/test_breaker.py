"""When a provider is skipped, and when it is tried again."""

from mailroom.courier.channels.breaker import FAILURES_IN_A_ROW, Breaker, Change


def failed(*, times: int = FAILURES_IN_A_ROW, now: float = 0.0) -> Breaker:
    """Return a breaker after so many failures in a row."""
    breaker = Breaker()
    for _ in range(times):
        breaker.fail("451 busy", now)
    return breaker


def test_failures_in_a_row_open_it() -> None:
    """One fewer does not."""
    breaker = failed(times=FAILURES_IN_A_ROW - 1)
    assert breaker.admits(0)
    assert breaker.fail("451 busy", 0) is Change.OPENED
    assert (breaker.admits(0), breaker.reason) == (False, "451 busy")


def test_a_success_in_between_counts_anew() -> None:
    """Single failures are ordinary."""
    breaker = Breaker()
    for _ in range(4):
        for _ in range(FAILURES_IN_A_ROW - 1):
            breaker.fail("451 busy", 0)
        for _ in range(6):
            assert breaker.succeed() is None
    assert breaker.admits(0)


def test_a_share_of_failures_opens_it() -> None:
    """Every second mail fails: ten of the last twenty."""
    breaker = Breaker()
    changes = [breaker.fail("451 busy", 0) or breaker.succeed() for _ in range(10)]
    assert changes == [None] * 9 + [Change.OPENED]


def test_a_wrong_configuration_opens_it_at_once() -> None:
    """The next mail would fail for the same reason."""
    assert Breaker().fail("535 5.7.8 bad credentials", 0, at_once=True) is Change.OPENED


def test_one_message_probes_when_the_time_is_over() -> None:
    """Others are refused until the probe has an outcome."""
    breaker = failed(now=100)
    assert not breaker.begin("probe", 104.9)
    assert breaker.begin("probe", 105)
    assert not breaker.admits(105)
    assert not breaker.begin("probe", 105)
    assert breaker.succeed() is Change.RECOVERED
    assert breaker.begin("probe", 105)


def test_a_probe_that_fails_doubles_the_time_up_to_a_minute() -> None:
    """5, 10, 20, 40, 60, 60 seconds."""
    breaker, now, waits = failed(), 0.0, []
    for _ in range(6):
        since = now
        while not breaker.begin("probe", now):
            now += 1
        waits.append(now - since)
        assert breaker.fail("451 busy", now, attempt="probe") is Change.PROBE_FAILED
    assert waits == [5, 10, 20, 40, 60, 60]


def test_after_a_recovery_the_first_wait_is_short_again() -> None:
    """What happened before is forgotten."""
    breaker = failed()
    assert breaker.begin("probe", 5)
    breaker.fail("451 busy", 5, attempt="probe")
    assert breaker.begin("probe", 15)
    breaker.succeed()
    for _ in range(FAILURES_IN_A_ROW - 1):
        assert breaker.fail("451 busy", 20) is None
    assert breaker.fail("451 busy", 20) is Change.OPENED
    assert breaker.admits(25)


def test_a_probe_without_an_outcome_lets_the_next_one_probe() -> None:
    """Its template failed, or its lease was lost."""
    breaker = failed()
    assert breaker.begin("probe", 5)
    breaker.cancel("probe")
    assert breaker.begin("probe", 5)


def test_an_attempt_from_before_that_succeeds_closes_it() -> None:
    """It was slow, not dead."""
    assert failed().succeed() is Change.RECOVERED


def test_a_failure_without_a_diagnostic_does_not_close_it() -> None:
    breaker = failed()
    breaker.fail("", 1)
    assert (breaker.is_open, breaker.reason) == (True, "451 busy")


def test_only_the_probe_ends_the_probe() -> None:
    """Attempts that began before the breaker opened end while it is probed: they let no second message probe."""
    breaker = failed()
    assert breaker.begin("probe", 5)
    breaker.cancel("earlier")
    assert breaker.fail("421 too late", 5, attempt="earlier") is None
    assert not breaker.begin("second", 5)
    assert breaker.fail("421 still", 5, attempt="probe") is Change.PROBE_FAILED
    assert breaker.begin("second", 15), "the time was doubled once"


def test_it_is_open_as_in_other_processes_and_probed_when_this_one_may() -> None:
    breaker = Breaker()
    assert breaker.follow("421 elsewhere", 20, None) is Change.OPENED
    assert not breaker.begin("probe", 1000)
    assert breaker.follow("421 elsewhere", 20, 1000) is None
    assert not breaker.begin("late", 1000), "the right has ended"
    assert breaker.begin("probe", 999)
    assert breaker.fail("421 still", 999, attempt="probe") is Change.PROBE_FAILED
    assert (breaker.reason, breaker.open_seconds) == ("421 still", 40)
    assert breaker.close() is Change.RECOVERED
    assert breaker.close() is None
    assert breaker.begin("another", 2000)


def test_without_the_others_it_is_probed_when_it_is_time() -> None:
    """Again and again, until they can be asked."""
    breaker = Breaker()
    breaker.follow("421 elsewhere", 20, None)
    for now in (1000, 1010, 1019):
        breaker.probe_alone(now)
        assert not breaker.admits(now)
    assert breaker.begin("probe", 1020)
    breaker.fail("421 still", 1020, attempt="probe")
    breaker.probe_alone(1021)
    assert not breaker.admits(1059)
    assert breaker.begin("probe", 1060)
