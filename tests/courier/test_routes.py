"""Which provider a message is handed to, and to which one next."""

from dataclasses import replace as replace_routes
from typing import Any

from msgspec import structs

from mailroom.config.overrides import Override
from mailroom.courier.routes import Routes
from mailroom.message import Address, Attempt, Message, Outcome, Priority
from tests.courier.parts import SENDER, message

ROUTES = Routes(by_template={"Welcome": ("bulk", "main")}, default=("main", "backup", "spare"))
WELCOME = message("Welcome", Priority.EVENT)


def _tried(provider: str, outcome: Outcome | None) -> Attempt:
    return Attempt(provider, started_at=0.0, outcome=outcome)


def test_a_template_without_a_route_takes_the_default() -> None:
    """`routes.default` is for everything that is not named."""
    assert ROUTES.order(message(), ()) == ("main", "backup", "spare")
    assert ROUTES.order(WELCOME, ()) == ("bulk", "main")


def test_after_a_refusal_the_order_is_the_same_again() -> None:
    """The next round begins at the top: the first provider is the best one."""
    for outcome in (Outcome.UNAVAILABLE, Outcome.MISCONFIGURED):
        assert ROUTES.order(message(), (_tried("backup", outcome),)) == ("main", "backup", "spare")


def test_an_uncertain_code_goes_to_another_provider_first() -> None:
    """A second mail with a code is worth more than none; an attempt cut off by a crash is as uncertain."""
    for outcome in (Outcome.UNCERTAIN, None):
        assert ROUTES.order(message(), (_tried("main", outcome),)) == ("backup", "spare", "main")


def test_other_uncertain_mail_goes_to_the_same_provider_first() -> None:
    """It may recognize the mail by its idempotency key; any other would send it twice."""
    for outcome in (Outcome.UNCERTAIN, None):
        assert ROUTES.order(WELCOME, (_tried("main", outcome),)) == ("main", "bulk")


def test_a_provider_that_left_the_settings_is_forgotten() -> None:
    """Attempts outlive the settings that they were made with."""
    assert ROUTES.order(WELCOME, (_tried("gone", None),)) == ("bulk", "main")


def test_rounds_are_counted_by_the_length_of_the_route() -> None:
    """Three attempts are one round through three providers, four have begun the second."""
    tried = tuple(_tried("main", Outcome.UNAVAILABLE) for _ in range(4))
    assert [ROUTES.rounds(message(), tried[:n]) for n in (1, 3, 4)] == [1, 1, 2]


def overridden(*tables: dict[str, Any]) -> Routes:
    """Return the routes with these overrides."""
    return replace_routes(ROUTES, overrides=tuple(Override.model_validate(table) for table in tables))


def sent_for(template: str = "SignIn", /, **payload: Any) -> Message:
    """Return a message with this payload."""
    return structs.replace(message(template), payload=payload)


LIGHTHOUSE = Address("no-reply@lighthouse.example", "Lighthouse")
APPLICATION = {"when": {"application": "app1"}, "from": "Lighthouse <no-reply@lighthouse.example>"}
ORGANIZATION = {"when": {"organization": "org1"}, "reply_to": "help@org.example", "providers": ["backup", "bulk"]}


def test_an_override_needs_all_of_its_fields_to_match() -> None:
    """By ids, not by names, which users can choose; an invitation's `organization` may be a text of its own."""
    both = {"when": {"application": "app1", "organization": "org1", "kind": "SignIn"}, "providers": ["spare"]}
    routes = overridden(both)
    matching = {"application": {"id": "app1"}, "organization": {"id": "org1"}}
    assert routes.providers(sent_for(**matching)) == ("spare",)
    invited = overridden({"when": {"organization": "org1"}, "providers": ["spare"]})
    assert invited.providers(sent_for("OrganizationInvitation", organization="org1")) == ("spare",)
    assert invited.providers(sent_for(organization="org1")) == ROUTES.default
    assert routes.providers(sent_for("Register", **matching)) == ROUTES.default
    named = {"id": "other", "name": "org1"}
    for other in (named, None, ["org1"], {"id": ["org1"]}, "other", 1):
        assert routes.providers(sent_for(**matching | {"organization": other})) == ROUTES.default
    assert routes.providers(sent_for(organization={"id": "org1"})) == ROUTES.default


def test_the_first_override_that_matches_is_used_alone() -> None:
    """What it does not set is as without overrides: the template's route, the usual From."""
    routes = overridden(APPLICATION, ORGANIZATION)
    both = sent_for("Welcome", application={"id": "app1"}, organization={"id": "org1"})
    assert routes.providers(both) == ("bulk", "main")
    assert routes.senders(both, SENDER, None) == (LIGHTHOUSE, None)
    one = sent_for("Welcome", organization={"id": "org1"})
    assert routes.order(one, ()) == ("backup", "bulk")
    assert routes.senders(one, SENDER, None) == (SENDER, Address("help@org.example"))
    other = sent_for("Welcome")
    assert routes.providers(other) == ("bulk", "main")
    assert routes.senders(other, SENDER, LIGHTHOUSE) == (SENDER, LIGHTHOUSE)


def test_the_default_route_has_no_name() -> None:
    """So that the outbox stores nothing more for most messages."""
    routes = overridden(ORGANIZATION)
    assert routes.name(sent_for(organization={"id": "org1"})) == "backup,bulk"
    assert routes.name(sent_for("Welcome")) == "bulk,main"
    assert routes.name(sent_for()) == ""
    assert routes.all() == {ROUTES.default, ("bulk", "main"), ("backup", "bulk")}
