"""`mailroom doctor`."""

import json
from pathlib import Path

from tests.cli.conftest import SETTINGS, Operator
from tests.doctor.test_sender import GOOD
from tests.names import name_server

RELAY = SETTINGS.replace('type = "capture"', 'type = "smtp"\nhost = "127.0.0.1"\nport = 1\ntls = "none"')


def test_nothing_is_wrong_with_a_capture_provider(operator: Operator) -> None:
    """There is nothing to examine, and no request is sent."""
    result = operator.run("doctor")
    assert result.exit_code == 0, result.output
    assert "Nothing is wrong." in result.output


def test_faults_are_printed_with_their_remedies(operator: Operator) -> None:
    Path("mailroom.toml").write_text(RELAY)
    with name_server(GOOD) as server:
        result = operator.run(
            "doctor", "main", "--nameserver", f"127.0.0.1#{server.port}", "--selector", "mail", "--egress", "192.0.2.9"
        )
    assert result.exit_code == 1
    assert "main (smtp), mails from no-reply@acme.example" in result.output
    assert "✗ credentials cannot connect to 127.0.0.1:1" in result.output
    assert "→ check host, port and proxy" in result.output
    assert "✓ SPF" in result.output
    assert "– address" in result.output  # noqa: RUF001 - as it is printed
    assert "1 thing is wrong." in result.output


def test_the_results_are_printed_as_json(operator: Operator) -> None:
    Path("mailroom.toml").write_text(RELAY)
    with name_server({}) as server:
        result = operator.run("doctor", "--json", "--nameserver", f"127.0.0.1#{server.port}")
    assert result.exit_code == 1
    report = json.loads(result.output)
    (provider,) = report["providers"]
    assert (provider["provider"], provider["type"], provider["from"]) == ("main", "smtp", ["no-reply@acme.example"])
    marks = {finding["about"]: finding["mark"] for finding in provider["findings"]}
    assert marks == {
        "address": "unknown",
        "credentials": "wrong",
        "MX": "wrong",
        "SPF": "wrong",
        "DKIM": "unknown",
        "DMARC": "wrong",
    }
    assert report["wrong"] == list(marks.values()).count("wrong")
    assert all(finding["todo"] for finding in provider["findings"])


def test_control_characters_in_dns_records_are_escaped(operator: Operator) -> None:
    Path("mailroom.toml").write_text(RELAY)
    zones = {
        **GOOD,
        ("acme.example", "TXT"): ['"v=spf1 \\027[31mred -all"'],
        ("mail._domainkey.acme.example", "TXT"): ['"v=\\027[2J; p=A"'],
    }
    with name_server(zones) as server:
        result = operator.run("doctor", "--nameserver", f"127.0.0.1#{server.port}", "--selector", "mail")
    assert result.exit_code == 1
    assert "\x1b" not in result.output


def test_a_misspelt_provider_address_or_name_server_is_a_usage_error(operator: Operator) -> None:
    for words in (("doctor", "mian"), ("doctor", "--egress", "here"), ("doctor", "--nameserver", "dns.example")):
        result = operator.run(*words)
        assert result.exit_code == 2, result.output


def test_each_senders_domain_is_checked(operator: Operator) -> None:
    """Those of the overrides, too; senders of one domain together."""
    own = "".join(
        f'[[overrides]]\nwhen = {{ organization = "{number}" }}\nfrom = "{sender}"\n'
        for number, sender in enumerate(("team@acme.example", "a@lighthouse.example", "b@lighthouse.example"))
    )
    Path("mailroom.toml").write_text(RELAY + own)
    words = ("doctor", "--selector", "mail", "--egress", "192.0.2.9", "--nameserver")
    with name_server(GOOD) as server:
        result = operator.run(*words, f"127.0.0.1#{server.port}")
        report = json.loads(operator.run(*words, f"127.0.0.1#{server.port}", "--json").output)
    assert result.output.count("mails from @") == 2
    assert "mails from @lighthouse.example" in result.output
    assert "✗ SPF         lighthouse.example has no SPF record" in result.output
    assert "✗ DKIM        there is no key at mail._domainkey.lighthouse.example" in result.output
    (provider,) = report["providers"]
    assert len(provider["from"]) == 4
    marks = {(finding["domain"], finding["about"]): finding["mark"] for finding in provider["findings"]}
    assert [marks["acme.example", about] for about in ("SPF", "DKIM")] == ["good", "good"]
    assert [marks["lighthouse.example", about] for about in ("SPF", "DKIM")] == ["wrong", "wrong"]
    assert (None, "credentials") in marks
