"""`[[overrides]]`: how they are read, and which faults are told."""

import json

import pytest

from mailroom.config import warnings
from mailroom.config.senders import senders_of
from mailroom.config.template_sources import sender_domains
from mailroom.message import Address
from tests.config.test_load import (  # noqa: F401 - the fixture is used
    ENOUGH,
    FILE,
    _somewhere,
    faults,
    loaded,
)

LIGHTHOUSE = """
[[overrides]]
when = { organization = "org_1", kind = "SignIn" }
from = "Lighthouse <no-reply@lighthouse.example>"
providers = ["main"]
"""


def test_overrides_are_tables_of_the_file_or_a_json_list() -> None:
    (from_file,) = loaded(FILE + LIGHTHOUSE).overrides
    assert from_file.sender == Address("no-reply@lighthouse.example", "Lighthouse")
    assert (from_file.when.organization, from_file.when.kind, from_file.when.application) == ("org_1", "SignIn", None)
    table = {"when": {"application": "app1"}, "from": "a@b.example", "reply_to": "c@d.example", "providers": ["main"]}
    (by_variable,) = loaded(**ENOUGH, MAILROOM_OVERRIDES=json.dumps([table])).overrides
    assert by_variable.when.application == "app1"
    assert by_variable.reply_to == Address("c@d.example")
    assert by_variable.providers == ("main",)


@pytest.mark.parametrize(
    ("written", "path", "problem"),
    [
        ('when = { organization = "o" }\nproviders = ["mian"]', "overrides[0].providers", "did you mean main?"),
        ('when = { organization = "o" }\nproviders = ["main", "main"]', "overrides[0].providers[1]", "listed twice"),
        ('when = { organization = "o" }\nproviders = []', "overrides[0].providers", "at least 1 item"),
        ('when = { organization = "o" }', "overrides[0]", "set from, reply_to or providers"),
        ('when = {}\nfrom = "a@b.example"', "overrides[0].when", "it would match every mail"),
        ('from = "a@b.example"', "overrides[0].when", "missing"),
        ('when = { organisation = "o" }\nfrom = "a@b.example"', "overrides[0].when.organisation", "mean organization?"),
        (
            'when = { kind = "SignIn" }\nform = "a@b.example"',
            "overrides[0].form",
            "unknown setting; did you mean from?",
        ),
        ('when = { kind = "SignIn" }\nfrom = "nobody"', "overrides[0].from", ""),
        ('when = { kind = ["SignIn"] }\nfrom = "a@b.example"', "overrides[0].when.kind", "should be a valid string"),
    ],
)
def test_faults_are_told_with_their_path(written: str, path: str, problem: str) -> None:
    found = faults(f"{FILE}[[overrides]]\n{written}\n")
    assert problem in found[path], found


def test_a_fault_in_one_of_several_overrides_names_it() -> None:
    assert "overrides[1].when.kinds" in faults(
        f'{FILE}{LIGHTHOUSE}[[overrides]]\nwhen = {{ kinds = "SignIn" }}\nfrom = "a@b.example"\n'
    )
    variable = json.dumps([{"when": {"kind": "SignIn"}, "providers": ["gone"]}])
    found = faults(environ=ENOUGH | {"MAILROOM_OVERRIDES": variable})
    assert found == {"MAILROOM_OVERRIDES[0].providers": "there is no provider 'gone'"}


def test_what_is_no_list_of_tables_is_reported() -> None:
    single = LIGHTHOUSE.replace("[[overrides]]", "[overrides]")
    assert faults(FILE + single) == {"overrides": "write each as a table with two brackets: [[overrides]]"}
    assert faults("", environ=ENOUGH | {"MAILROOM_OVERRIDES": "[nonsense"}) == {
        "MAILROOM_OVERRIDES": "is not a JSON list"
    }


def test_a_sender_that_its_provider_cannot_send_from_is_a_fault() -> None:
    """Aliyun's SMTP accepts only the address that logs in."""
    login = 'username = "a@b.example"\npassword = "p"\nfrom = "a@b.example"\n'
    aliyun = f'[providers.cn]\ntype = "smtp"\npreset = "aliyun"\n{login}'
    override = LIGHTHOUSE.replace("main", "cn")
    found = faults(FILE + aliyun + override)
    assert found["overrides[0]"].startswith("provider cn cannot send these mails: Aliyun takes mail only from")


def test_overrides_that_can_never_apply_are_a_warning() -> None:
    kind = '[[overrides]]\nwhen = { kind = "Signin" }\nfrom = "a@b.example"\n'
    shadowed = '[[overrides]]\nwhen = { application = "a", kind = "Signin" }\nfrom = "c@b.example"\n'
    told = warnings(loaded(FILE + kind + shadowed))
    assert "overrides[0].when.kind: no mail of the kind 'Signin' is known; did you mean SignIn?" in told
    assert "overrides[1] is never used: an earlier override matches all of its mails" in told
    other = shadowed.replace("Signin", "SignIn")
    assert not any("overrides" in line for line in warnings(loaded(FILE + LIGHTHOUSE + other)))


def test_templates_may_send_from_the_domains_of_overrides() -> None:
    assert "lighthouse.example" in sender_domains(loaded(FILE + LIGHTHOUSE))


def test_the_senders_of_a_provider() -> None:
    """Those of the overrides by which mail reaches it; the usual one only if a route has it."""
    own = FILE + '[providers.own]\ntype = "pigeon"\nhost = "h"\n[routes]\ndefault = ["main"]\n'
    lighthouse = Address("no-reply@lighthouse.example", "Lighthouse")
    settings = loaded(own + LIGHTHOUSE.replace("main", "own"))
    assert senders_of(settings, "own") == (lighthouse,)
    assert senders_of(settings, "main") == (settings.sender,)
    everywhere = loaded(own + LIGHTHOUSE.replace('providers = ["main"]', ""))
    assert senders_of(everywhere, "main") == (everywhere.sender, lighthouse)
    assert senders_of(everywhere, "own") == (everywhere.sender,)
