"""Which provider a message is handed to, and to which one next."""

from mailroom.courier.routes import Routes
from mailroom.message import Attempt, Outcome, Priority

ROUTES = Routes(by_template={"Welcome": ("bulk", "main")}, default=("main", "backup", "spare"))


def _tried(provider: str, outcome: Outcome | None) -> Attempt:
    return Attempt(provider, started_at=0.0, outcome=outcome)


def test_a_template_without_a_route_takes_the_default() -> None:
    """`routes.default` is for everything that is not named."""
    assert ROUTES.order("SignIn", Priority.CODE, ()) == ("main", "backup", "spare")
    assert ROUTES.order("Welcome", Priority.EVENT, ()) == ("bulk", "main")


def test_after_a_refusal_the_order_is_the_same_again() -> None:
    """The next round begins at the top: the first provider is the best one."""
    for outcome in (Outcome.UNAVAILABLE, Outcome.MISCONFIGURED):
        assert ROUTES.order("SignIn", Priority.CODE, (_tried("backup", outcome),)) == ("main", "backup", "spare")


def test_an_uncertain_code_goes_to_another_provider_first() -> None:
    """A second mail with a code is worth more than none; an attempt cut off by a crash is as uncertain."""
    for outcome in (Outcome.UNCERTAIN, None):
        assert ROUTES.order("SignIn", Priority.CODE, (_tried("main", outcome),)) == ("backup", "spare", "main")


def test_other_uncertain_mail_goes_to_the_same_provider_first() -> None:
    """It may recognize the mail by its idempotency key; any other would send it twice."""
    for outcome in (Outcome.UNCERTAIN, None):
        assert ROUTES.order("Welcome", Priority.EVENT, (_tried("main", outcome),)) == ("main", "bulk")


def test_a_provider_that_left_the_settings_is_forgotten() -> None:
    """Attempts outlive the settings that they were made with."""
    assert ROUTES.order("Welcome", Priority.EVENT, (_tried("gone", None),)) == ("bulk", "main")


def test_rounds_are_counted_by_the_length_of_the_route() -> None:
    """Three attempts are one round through three providers, four have begun the second."""
    tried = tuple(_tried("main", Outcome.UNAVAILABLE) for _ in range(4))
    assert [ROUTES.rounds("SignIn", tried[:n]) for n in (1, 3, 4)] == [1, 1, 2]
