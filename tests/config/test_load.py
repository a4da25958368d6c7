"""The file and the variables become settings, or a list of all their faults."""

import json
import stat
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mailroom import providers
from mailroom.config import load, warnings
from mailroom.config.fields import leaves, variable
from mailroom.config.model import EventRule, Settings
from mailroom.errors import Fault, SettingsError
from mailroom.message import Address
from mailroom.rendering.links import DANGEROUS_SCHEMES
from tests.fake_providers.pigeon import Settings as Pigeon

KEYS = st.sampled_from(["type", "host", "main", "default", "template", "authorization", "events", "User.Created"])
KEY = "k3y-" * 10
HEADER = "Bearer 0123456789abcdef"
ENOUGH = {
    "MAILROOM_FROM": "Acme <no-reply@acme.example>",
    "MAILROOM_SECRET_KEY": KEY,
    "MAILROOM_CONNECTOR__AUTHORIZATION": HEADER,
    "MAILROOM_PROVIDERS__MAIN__TYPE": "pigeon",
    "MAILROOM_PROVIDERS__MAIN__HOST": "loft.example",
}
FILE = f"""
from = "Acme <no-reply@acme.example>"
secret_key = "{KEY}"
[connector]
authorization = "{HEADER}"
[providers.main]
type = "pigeon"
host = "loft.example"
"""


@pytest.fixture(autouse=True)
def _somewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work in an empty directory, with the fake provider `pigeon`."""
    fakes = Path(__file__).parents[1] / "fake_providers"
    monkeypatch.setattr(providers, "__path__", [*providers.__path__, str(fakes)])
    monkeypatch.chdir(tmp_path)


def loaded(file: str | None = None, **environ: str) -> Settings:
    """Load from a file in the working directory and these variables."""
    if file is not None:
        Path("mailroom.toml").write_text(file)
    return load(environ=environ)


def developing(file: str | None = None, **environ: str) -> Settings:
    """Load the same with `--dev`."""
    if file is not None:
        Path("mailroom.toml").write_text(file)
    return load(environ=environ, dev=True)


def faults(
    file: str | None = None, *, environ: Mapping[str, str] | None = None, load: Callable[..., Settings] = loaded
) -> dict[str, str]:
    """Return the faults by path."""
    with pytest.raises(SettingsError) as caught:
        load(file, **(environ or {}))
    assert len({fault.path for fault in caught.value.faults}) == len(caught.value.faults)
    return {fault.path: fault.problem for fault in caught.value.faults}


def pigeon(settings: Settings, name: str = "main") -> Any:
    """Return a provider of the type `pigeon`."""
    return settings.providers[name]


# ---- where values come from


def test_variables_alone_are_enough() -> None:
    settings = loaded(**ENOUGH)
    assert settings.sender == Address("no-reply@acme.example", "Acme")
    assert settings.connector.authorization[0].get_secret_value() == HEADER
    assert pigeon(settings).host == "loft.example"
    assert settings.dev is False


def test_the_file_alone_is_enough() -> None:
    settings = loaded(FILE)
    assert [key.get_secret_value() for key in settings.secret_key] == [KEY]
    assert list(settings.providers) == ["main"]


def test_a_variable_overrides_the_file() -> None:
    settings = loaded(FILE, MAILROOM_PROVIDERS__MAIN__PORT="2525", MAILROOM_FROM="b@acme.example")
    assert (pigeon(settings).port, pigeon(settings).host) == (2525, "loft.example")
    assert settings.sender.email == "b@acme.example"


def test_the_file_may_be_named_by_a_variable_or_an_argument() -> None:
    Path("other.toml").write_text(FILE)
    assert load(environ={"MAILROOM_CONFIG": "other.toml"}).port == 8000
    assert load(environ={"MAILROOM_CONFIG": "nowhere.toml"}, config=Path("other.toml")).port == 8000


def test_a_named_file_must_be_there() -> None:
    found = faults(environ={"MAILROOM_CONFIG": "nowhere.toml"})
    assert found == {"MAILROOM_CONFIG": "there is no file nowhere.toml"}, (
        "and nothing is called missing that it may hold"
    )


def test_a_file_that_is_not_toml_is_reported_together_with_faulty_variables() -> None:
    found = faults("from = \n", environ={"MAILROOM_PORT": "many", "MAILROOM_POTR": "1"})
    assert found["mailroom.toml"].startswith("is not TOML: Invalid value (at line 1")
    assert set(found) == {"mailroom.toml", "MAILROOM_PORT", "MAILROOM_POTR"}


def test_a_file_that_is_not_text_is_reported() -> None:
    Path("mailroom.toml").write_bytes(b"\xff\xfe")
    assert faults() == {"mailroom.toml": "is not UTF-8 text"}


def test_a_directory_is_no_file() -> None:
    Path("mailroom.toml").mkdir()
    assert "cannot read mailroom.toml" in faults()["mailroom.toml"]


def test_an_empty_variable_is_unset() -> None:
    settings = loaded(FILE, MAILROOM_FROM="", MAILROOM_CONFIG="", MAILROOM_UNHEARD_OF="", PORT="")
    assert settings.sender.name == "Acme"


def test_lists_are_comma_separated_or_json() -> None:
    commas = loaded(**ENOUGH, MAILROOM_CONNECTOR__ALLOWED_IPS="203.0.113.0/24, 2001:db8::/32,")
    json = loaded(**ENOUGH, MAILROOM_CONNECTOR__ALLOWED_IPS='["203.0.113.0/24", "2001:db8::/32"]')
    assert [str(network) for network in commas.connector.allowed_ips] == ["203.0.113.0/24", "2001:db8::/32"]
    assert commas.connector == json.connector


def test_a_header_value_with_a_comma_can_be_given_as_json() -> None:
    settings = loaded(**ENOUGH | {"MAILROOM_CONNECTOR__AUTHORIZATION": '["Digest a=12345678, b=90"]'})
    assert settings.connector.authorization[0].get_secret_value() == "Digest a=12345678, b=90"


def test_several_keys_can_be_given() -> None:
    settings = loaded(**ENOUGH | {"MAILROOM_SECRET_KEY": f"{'n' * 32},{KEY}"})
    assert [key.get_secret_value() for key in settings.secret_key] == ["n" * 32, KEY]


def test_maps_are_json_and_keys_keep_their_case() -> None:
    settings = loaded(
        **ENOUGH,
        MAILROOM_ROUTES='{"default": ["main"], "Welcome": ["main"]}',
        MAILROOM_WEBHOOK__EVENTS='{"User.Created": {"template": "Welcome", "only": "registration"}, "A": "Hi"}',
        MAILROOM_PROVIDERS__MAIN__HEADERS='{"X-Ring": "Red"}',
        MAILROOM_PROVIDERS__MAIN__REGIONS="eu, us",
    )
    assert settings.routes == {"default": ("main",), "Welcome": ("main",)}
    assert settings.webhook.events == {
        "User.Created": EventRule(template="Welcome", only="registration"),
        "A": EventRule(template="Hi"),
    }
    assert pigeon(settings).headers == {"X-Ring": "Red"}
    assert pigeon(settings).regions == ("eu", "us")


def test_one_route_can_be_a_variable() -> None:
    settings = loaded(
        **ENOUGH, MAILROOM_ROUTES__DEFAULT="main", MAILROOM_ROUTES__SIGNIN="main", MAILROOM_ROUTES__Own="main"
    )
    assert settings.routes == {"default": ("main",), "SignIn": ("main",), "Own": ("main",)}


def test_a_route_in_capitals_for_an_unknown_template_is_refused() -> None:
    assert "MAILROOM_ROUTES='{" in faults(environ=ENOUGH | {"MAILROOM_ROUTES__OWN": "main"})["MAILROOM_ROUTES__OWN"]


def test_a_variable_overrides_the_file_s_provider_in_any_spelling() -> None:
    settings = loaded(FILE.replace("providers.main", "providers.main-eu"), MAILROOM_PROVIDERS__MAIN_EU__PORT="26")
    assert pigeon(settings, "main-eu").port == 26


def test_all_providers_can_be_one_variable_in_order() -> None:
    both = '{"b": {"type": "pigeon", "host": "b"}, "a": {"type": "pigeon", "host": "a"}}'
    environ = {name: value for name, value in ENOUGH.items() if "PROVIDERS" not in name}
    assert list(loaded(**environ, MAILROOM_PROVIDERS=both).providers) == ["b", "a"]


@pytest.mark.parametrize("variable", ["MAILROOM_ROUTES", "MAILROOM_WEBHOOK__EVENTS", "MAILROOM_CONNECTOR"])
def test_a_table_in_a_variable_must_be_a_json_object(variable: str) -> None:
    assert faults(environ=ENOUGH | {variable: "main"})[variable] == "is not a JSON object"


def test_a_list_that_looks_like_json_must_be_json() -> None:
    found = faults(environ=ENOUGH | {"MAILROOM_CONNECTOR__ALLOWED_IPS": "[203.0.113.0/24"})
    assert found == {"MAILROOM_CONNECTOR__ALLOWED_IPS": "is not a JSON list"}


# ---- secrets in files


def test_any_secret_may_be_in_a_file_of_its_own() -> None:
    Path("password").write_bytes(b" two words \r\n")
    Path("keys").write_text(f"{'n' * 32}\n{KEY}\n")
    environ = {name: value for name, value in ENOUGH.items() if name != "MAILROOM_SECRET_KEY"}
    settings = loaded(**environ, MAILROOM_SECRET_KEY_FILE="keys", MAILROOM_PROVIDERS__MAIN__PASSWORD_FILE="password")
    assert pigeon(settings).password.get_secret_value() == " two words "
    assert [key.get_secret_value() for key in settings.secret_key] == ["n" * 32, KEY]


def test_a_byte_order_mark_is_not_part_of_a_secret() -> None:
    """Nor a mistake in the TOML file: some editors write it into every file."""
    Path("password").write_bytes(b"\xef\xbb\xbfsecret")
    Path("keys").write_bytes(b"\xef\xbb\xbf" + f"{KEY}\n".encode())
    Path("mailroom.toml").write_bytes(b'\xef\xbb\xbfreply_to = "help@acme.example"\n')
    environ = {name: value for name, value in ENOUGH.items() if name != "MAILROOM_SECRET_KEY"}
    settings = loaded(**environ, MAILROOM_SECRET_KEY_FILE="keys", MAILROOM_PROVIDERS__MAIN__PASSWORD_FILE="password")
    assert pigeon(settings).password.get_secret_value() == "secret"
    assert [key.get_secret_value() for key in settings.secret_key] == [KEY]
    assert settings.reply_to == Address("help@acme.example")


def test_only_one_trailing_line_break_is_removed() -> None:
    Path("password").write_bytes(b"odd\n\n")
    settings = loaded(**ENOUGH, MAILROOM_PROVIDERS__MAIN__PASSWORD_FILE="password")
    assert pigeon(settings).password.get_secret_value() == "odd\n"


def test_a_missing_secret_file_is_a_fault() -> None:
    found = faults(environ=ENOUGH | {"MAILROOM_METRICS_TOKEN_FILE": "nowhere"})
    assert found == {"MAILROOM_METRICS_TOKEN_FILE": "cannot read nowhere: No such file or directory"}


@pytest.mark.parametrize("content", [b"\xff", b"x" * 70_000])
def test_a_secret_file_must_contain_a_valid_secret(content: bytes) -> None:
    Path("file").write_bytes(content)
    assert list(faults(environ=ENOUGH | {"MAILROOM_METRICS_TOKEN_FILE": "file"})) == ["MAILROOM_METRICS_TOKEN_FILE"]


def test_a_secret_given_twice_is_a_fault() -> None:
    Path("key").write_text(KEY)
    found = faults(environ=ENOUGH | {"MAILROOM_SECRET_KEY_FILE": "key"})
    assert found == {"MAILROOM_SECRET_KEY_FILE": "sets the same setting as MAILROOM_SECRET_KEY; unset one of them"}


def test_a_setting_whose_name_ends_in_file_is_not_read_from_a_file() -> None:
    assert pigeon(loaded(**ENOUGH, MAILROOM_PROVIDERS__MAIN__KEY_FILE="here.pem")).key_file == "here.pem"


def test_only_secrets_can_be_read_from_files() -> None:
    assert "MAILROOM_FROM_FILE" in faults(environ=ENOUGH | {"MAILROOM_FROM_FILE": "/etc/hostname"})


def test_no_fault_shows_a_secret() -> None:
    """From the file and from variables: too short, of the wrong type, or under a misspelt name."""
    file = FILE.replace(KEY, "hush1").replace(f'"{HEADER}"', '["hush2", 5]') + "password = 7777\nhots = 'hush3'\n"
    found = faults(
        file,
        environ={
            "MAILROOM_PASWORD": "hush4",
            "MAILROOM_METRICS_TOKEN": " ",
            "MAILROOM_DATABASE_URL": "postgres://u:hush5@h/d?sslmode=hush8",
            "MAILROOM_WEBHOOK__SIGNING_KEYS": '["hush6", {}]',
        },
    )
    text = str(found)
    assert "hush" not in text
    assert "7777" not in text
    assert set(found) == {
        "secret_key", "connector.authorization[1]", "providers.main.password", "providers.main.hots",
        "MAILROOM_PASWORD", "MAILROOM_METRICS_TOKEN", "MAILROOM_DATABASE_URL", "MAILROOM_WEBHOOK__SIGNING_KEYS[1]",
    }  # fmt: skip


# ---- what platforms set


def test_platforms_set_port_host_and_database_url() -> None:
    settings = loaded(FILE, PORT="5000", HOST="::", DATABASE_URL="sqlite:////data/m.db")
    assert (settings.port, settings.host, settings.database_url) == (5000, "::", "sqlite:////data/m.db")


def test_port_implies_that_all_addresses_are_listened_on() -> None:
    assert loaded(FILE, PORT="5000").host == "0.0.0.0"
    assert loaded('host = "127.0.0.1"\n' + FILE, PORT="5000").host == "127.0.0.1", "unless we were messages"
    assert loaded(FILE, MAILROOM_PORT="5000").host == "127.0.0.1", "our own name implies nothing"


def test_our_variables_override_the_platform_s() -> None:
    settings = loaded(
        FILE,
        PORT="1",
        MAILROOM_PORT="2",
        HOST="::",
        MAILROOM_HOST="::1",
        DATABASE_URL="x",
        MAILROOM_DATABASE_URL="sqlite:///m",
    )
    assert (settings.port, settings.host, settings.database_url) == (2, "::1", "sqlite:///m")


def test_a_host_variable_that_is_no_address_is_ignored() -> None:
    assert loaded(FILE, HOST="x86_64-conda-linux-gnu").host == "127.0.0.1"
    assert "MAILROOM_HOST" in faults(environ=ENOUGH | {"MAILROOM_HOST": "my-machine"})


def test_variables_that_kubernetes_injects_are_ignored() -> None:
    settings = loaded(
        FILE,
        MAILROOM_PORT="tcp://10.0.0.7:8000",
        MAILROOM_SERVICE_HOST="10.0.0.7",
        MAILROOM_SERVICE_PORT="8000",
        MAILROOM_SERVICE_PORT_HTTP="8000",
        MAILROOM_PORT_8000_TCP="tcp://10.0.0.7:8000",
        MAILROOM_PORT_8000_TCP_PROTO="tcp",
        MAILROOM_PORT_8000_TCP_PORT="8000",
        MAILROOM_PORT_8000_TCP_ADDR="10.0.0.7",
        MAILROOM_WEB_SERVICE_HOST="10.0.0.8",
        MAILROOM_WEB_PORT="udp://10.0.0.8:53",
    )
    assert settings.port == 8000


# ---- faults


def test_empty_settings_report_everything_that_is_required() -> None:
    assert set(faults()) == {"from", "secret_key", "providers", "connector.authorization"}


def test_all_faults_are_reported_at_once_each_with_its_source() -> None:
    found = faults(
        'port = 70000\ncolour = "red"\nreply_to = 5\n[connector]\nauthorisation = "x"\n[lifetimes]\ncode = "2h"\n'
        '[providers.main]\ntype = "pigeon"\n[providers.other]\ntype = "pidgeon"\n[routes]\ndefault = ["mian"]\n',
        environ={
            "MAILROOM_CONNECTOR__ALLOWED_IPS": "10.0.0.1/8,::1",
            "MAILROOM_RETENTION": "30",
            "MAILROOM_ROLE": "worker",
        },
    )
    assert found == {
        "port": "should be less than or equal to 65535",
        "colour": "unknown setting",
        "reply_to": "write a mailbox as Name <address>",
        "connector.authorisation": "unknown setting; did you mean authorization?",
        "connector.authorization": found["connector.authorization"],
        "lifetimes.code": "should be less than or equal to 1 hour",
        "providers.main.host": "missing; set it here or as MAILROOM_PROVIDERS__MAIN__HOST",
        "providers.other.type": (
            f"there is no such type; there are: {', '.join(providers.types())}; did you mean pigeon?"
        ),
        "routes.default": "there is no provider 'mian'; did you mean main?",
        "from": found["from"],
        "secret_key": found["secret_key"],
        "MAILROOM_CONNECTOR__ALLOWED_IPS[0]": "10.0.0.1/8 has host bits set",
        "MAILROOM_RETENTION": 'write a duration with its unit: "30s", "10m", "24h" or "7d"',
        "MAILROOM_ROLE": found["MAILROOM_ROLE"],
    }
    assert "keygen" in found["secret_key"]
    assert "PostgreSQL" in found["MAILROOM_ROLE"]


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("MAILROOM_CONECTOR__AUTHORIZATION", "MAILROOM_CONNECTOR__AUTHORIZATION"),
        ("MAILROOM_CONNECTOR_AUTHORIZATION", "MAILROOM_CONNECTOR__AUTHORIZATION"),
        ("MAILROOM_PROVIDERS__MAIN__PASWORD", "MAILROOM_PROVIDERS__MAIN__PASSWORD"),
    ],
)
def test_a_misspelt_variable_is_a_fault_with_a_suggestion(variable: str, meant: str) -> None:
    assert faults(environ=ENOUGH | {variable: "x"}) == {variable: f"unknown setting; did you mean {meant}?"}


def test_a_value_of_several_types_has_one_fault() -> None:
    file = FILE + 'nest = "x"\nheaders = { A = 5, B = ["a", 5] }\n'
    assert faults(file) == {
        "providers.main.nest": "input is not a valid IPv4 address, or input is not a valid IPv6 address",
        "providers.main.headers.A": "should be a valid string, or should be a valid tuple",
        "providers.main.headers.B": "should be a valid string",
        "providers.main.headers.B[1]": "should be a valid string",
    }


@pytest.mark.parametrize("name", ["public_url", "proxy", "sender", "dev"])
def test_unknown_settings_are_faults_in_the_file_and_as_variables(name: str) -> None:
    assert faults(f'{name} = "x"\n{FILE}')[name].startswith("unknown setting")
    Path("mailroom.toml").unlink()
    variable = f"MAILROOM_{name.upper()}"
    assert faults(environ=ENOUGH | {variable: "x"})[variable].startswith("unknown setting")


def test_a_variable_for_an_unknown_provider_is_a_fault_about_its_type() -> None:
    assert faults(FILE, environ={"MAILROOM_PROVIDERS__MIAN__PASSWORD": "x"}) == {
        "MAILROOM_PROVIDERS__MIAN__PASSWORD": (
            "there is no provider 'mian'; did you mean main?; a new one needs MAILROOM_PROVIDERS__MIAN__TYPE"
        )
    }


def test_a_provider_in_the_file_needs_a_type() -> None:
    found = faults(FILE.replace('type = "pigeon"', ""), environ={"MAILROOM_PROVIDERS__MAIN__PASSWORD": "x"})
    assert found == {"providers.main.type": f"missing; one of: {', '.join(providers.types())}"}


@pytest.mark.parametrize("name", ["Main", "mäin", "a__b", "-a", "a b"])
def test_a_provider_s_name_can_be_written_as_a_variable(name: str) -> None:
    assert f"providers.{name}" in faults(FILE + f'[providers."{name}"]\ntype = "pigeon"\nhost = "h"\n')


def test_a_provider_is_a_table() -> None:
    assert faults(FILE.replace("[providers.main]", "[providers]"))["providers.type"].startswith("a provider is a table")


@pytest.mark.parametrize("section", ["connector", "routes", "providers", "lifetimes"])
def test_a_table_that_is_something_else_is_reported(section: str) -> None:
    written = f'{section} = "x"\nfrom = "a@b.example"\nsecret_key = "{KEY}"\n'
    assert faults(written, environ={"MAILROOM_CONNECTOR__AUTHORIZATION": HEADER})[section] == "should be a table"


def test_several_providers_by_variables_alone_need_an_order() -> None:
    second = {"MAILROOM_PROVIDERS__BACKUP__TYPE": "pigeon", "MAILROOM_PROVIDERS__BACKUP__HOST": "h"}
    assert "variables have no order" in faults(environ=ENOUGH | second)["routes.default"]
    settings = loaded(**ENOUGH | second, MAILROOM_ROUTES__DEFAULT="main,backup")
    assert settings.routes["default"] == ("main", "backup")


def test_providers_have_the_file_s_order() -> None:
    settings = loaded(FILE + '[providers.a]\ntype = "pigeon"\nhost = "h"\n', MAILROOM_PROVIDERS__A__PORT="26")
    assert list(settings.providers) == ["main", "a"]


@pytest.mark.parametrize("route", ["[]", '["main", "main"]', '["gone"]'])
def test_a_route_names_existing_providers_once(route: str) -> None:
    assert any(path.startswith("routes.Welcome") for path in faults(f"{FILE}[routes]\nWelcome = {route}\n"))


# ---- what the server does not start with


def test_a_short_secret_key_is_refused() -> None:
    assert "keygen" in faults(environ=ENOUGH | {"MAILROOM_SECRET_KEY": "k" * 31})["MAILROOM_SECRET_KEY"]
    assert "keygen" in faults(environ=ENOUGH | {"MAILROOM_SECRET_KEY": f"{KEY},short"})["MAILROOM_SECRET_KEY[1]"]


@pytest.mark.parametrize(
    "header", ["Bearer 12345678", "Bearer\r\nX: 123456789", "Bearer 12345678ä0", "Bearer 12345678 ", "\x00" * 20, ""]
)
def test_an_invalid_or_short_authorization_is_refused(header: str) -> None:
    file = FILE.replace(f'"{HEADER}"', repr(header).replace("'", '"').replace("\\x00", "\\u0000"))
    assert list(faults(file)) == ["connector.authorization"]


def test_link_schemes_are_a_list() -> None:
    settings = load(environ=ENOUGH | {"MAILROOM_LINK_SCHEMES": "acme,Com.Acme.App"})
    assert settings.link_schemes == ("acme", "com.acme.app")


@pytest.mark.parametrize(
    ("scheme", "complaint"),
    [
        *((scheme, "can run code") for scheme in sorted(DANGEROUS_SCHEMES)),
        ("JavaScript", "can run code"),
        ("acme://", "without its colon"),
        ("1acme", "without its colon"),
    ],
)
def test_an_invalid_or_dangerous_link_scheme_is_a_fault(scheme: str, complaint: str) -> None:
    [problem] = faults(environ=ENOUGH | {"MAILROOM_LINK_SCHEMES": scheme}).values()
    assert complaint in problem


@pytest.mark.parametrize(
    "url",
    [
        "postgres://u:p%40@h/d",
        "postgresql://h/d?sslmode=verify-full&target_session_attrs=primary",
        "postgresql://a:5432,[::1]:5433/d?pgbouncer=true",
        "postgresql:///d?host=/run/postgresql",
    ],
)
@pytest.mark.parametrize("role", ["all", "web", "worker"])
def test_postgresql_has_every_role(url: str, role: str) -> None:
    """Without warnings; also on hosts that lose their disk."""
    settings = loaded(f'role = "{role}"\n{FILE}', DATABASE_URL=url, DYNO="web.1")
    assert (settings.database_url, settings.role) == (url, role)
    assert not warnings(settings)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("postgresql:///d", "no host"),
        ("postgresql://u:pass:word@h:x/d", "%3A"),
        ("postgresql://u:p#@h/d", "%23"),
        ("postgresql://h/d?sslmod=require", "did you mean sslmode?"),
        ("postgresql://h/d?sslmode=yes", "verify-full"),
        ("postgresql://h/d?target_session_attrs=master", "read-write"),
        ("postgresql://h/d?sslrootcert=/nowhere/ca.pem", "sslrootcert=/nowhere/ca.pem"),
    ],
)
def test_faults_in_the_url_of_a_database_are_named(url: str, complaint: str) -> None:
    assert complaint in faults(environ=ENOUGH | {"DATABASE_URL": url})["DATABASE_URL"]


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("sqlite:///m.db", "no URL of a PostgreSQL"),
        ("postgresql://h/d?pgbouncer=true", "no process can be woken"),
        ("postgresql://h/d?sslmod=require", "did you mean sslmode?"),
    ],
)
def test_faults_in_the_url_to_be_woken_by_are_named(url: str, complaint: str) -> None:
    environ = ENOUGH | {"DATABASE_URL": "postgresql://h/d?pgbouncer=true", "MAILROOM_DATABASE_LISTEN_URL": url}
    assert complaint in faults(environ=environ)["MAILROOM_DATABASE_LISTEN_URL"]


def test_the_url_of_the_database_may_be_in_a_file(tmp_path: Path) -> None:
    """It has a password."""
    file = tmp_path / "url"
    file.write_text("postgresql://u:hush@h/d\n")
    settings = loaded(FILE, MAILROOM_DATABASE_URL_FILE=str(file), MAILROOM_DATABASE_LISTEN_URL_FILE=str(file))
    assert settings.database_url == "postgresql://u:hush@h/d"
    assert settings.database_listen_url
    assert settings.database_listen_url.get_secret_value() == settings.database_url
    assert "hush" not in repr(settings.database_listen_url)


@pytest.mark.parametrize(
    "url", ["mysql://h/d", "m.db", "sqlite:///", "sqlite:///:memory:", "sqlite:///a?mode=ro", "sqlite:///a/"]
)
def test_the_outbox_must_be_a_file(url: str) -> None:
    assert "name a file" in faults(environ=ENOUGH | {"MAILROOM_DATABASE_URL": url})["MAILROOM_DATABASE_URL"]


@pytest.mark.parametrize("variable", ["DYNO", "K_SERVICE", "AWS_LAMBDA_FUNCTION_NAME", "VERCEL"])
def test_sqlite_is_refused_on_hosts_that_lose_their_disk(variable: str) -> None:
    assert "PostgreSQL" in faults(environ=ENOUGH | {variable: "web.1"})["database_url"]


def test_a_worker_needs_postgresql() -> None:
    assert "PostgreSQL" in faults(f'role = "worker"\n{FILE}')["role"]


def test_several_processes_need_postgresql() -> None:
    assert "PostgreSQL" in faults(f"workers = 2\n{FILE}")["workers"]
    assert "workers" in faults(f"workers = 0\n{FILE}")


def test_trusted_proxies_and_trusted_hops_cannot_be_combined() -> None:
    both = {"MAILROOM_CONNECTOR__TRUSTED_PROXIES": "10.0.0.0/8", "MAILROOM_CONNECTOR__TRUSTED_HOPS": "1"}
    assert list(faults(environ=ENOUGH | both)) == ["MAILROOM_CONNECTOR__TRUSTED_HOPS"]


@pytest.mark.parametrize(("lifetime", "fits"), [("59s", False), ("60s", True), ("1h", True), ("3601s", False)])
def test_the_lifetime_of_codes_has_logto_s_bounds(lifetime: str, *, fits: bool) -> None:
    environ = ENOUGH | {"MAILROOM_LIFETIMES__CODE": lifetime}
    if fits:
        assert loaded(**environ).lifetimes.code >= timedelta(seconds=60)
    else:
        assert list(faults(environ=environ)) == ["MAILROOM_LIFETIMES__CODE"]


def test_capture_outside_development_is_a_warning() -> None:
    settings = loaded(**ENOUGH | {"MAILROOM_PROVIDERS__MAIN__TYPE": "capture"} | {"MAILROOM_PROVIDERS__MAIN__HOST": ""})
    assert warnings(settings) == ["provider main captures mails instead of sending them"]
    assert warnings(developing()) == []


def test_unusual_settings_are_warnings() -> None:
    settings = loaded(**ENOUGH, MAILROOM_ROLE="web", MAILROOM_SHUTDOWN_TIMEOUT="3s")
    assert [warning.split()[0] for warning in warnings(settings)] == ["role", "shutdown_timeout"]


@pytest.mark.parametrize(
    ("provider", "danger"),
    [
        ('type = "smtp"\nhost = "smtp.acme.example"\ntls_verify = false', "tls_verify = false"),
        ('type = "smtp"\nhost = "10.0.0.5"\ntls = "none"', 'tls = "none"'),
        ('type = "smtp"\nhost = "127.0.0.1"\ntls = "none"', ""),
        ('type = "smtp"\nhost = "smtp.acme.example"', ""),
        ('type = "http"\nurl = "http://gateway.acme.example/t0ken"', "url is http://"),
        ('type = "http"\nurl = "https://gateway.acme.example/t0ken"', ""),
        ('type = "http"\nurl = "http://[::1]:9000/t0ken"', ""),
        ('type = "resend"\napi_key = "re_0123456789"\nendpoint = "http://10.0.0.5:8080"', "endpoint is http://"),
        ('type = "resend"\napi_key = "re_0123456789"\nendpoint = "http://localhost:8080"', ""),
    ],
)
def test_unencrypted_connections_are_warnings(provider: str, danger: str) -> None:
    found = warnings(loaded(FILE.replace('type = "pigeon"\nhost = "loft.example"', provider)))
    assert len(found) == bool(danger)
    assert all(warning.startswith("provider main ") and danger in warning for warning in found)
    assert "t0ken" not in str(found)


@pytest.mark.parametrize(
    ("host", "is_open"),
    [
        ("0.0.0.0", True),
        ("::", True),
        ("8.8.8.8", True),
        ("10.0.0.5", False),
        ("127.0.0.1", False),
        ("localhost", False),
    ],
)
def test_unprotected_metrics_on_a_public_address_are_a_warning(host: str, *, is_open: bool) -> None:
    expected = [f"anyone who can connect can read /metrics on {host}: set metrics_token"] if is_open else []
    assert warnings(loaded(**ENOUGH, MAILROOM_HOST=host)) == expected
    assert warnings(loaded(**ENOUGH, MAILROOM_HOST=host, MAILROOM_METRICS_TOKEN="t0ken")) == []


# ---- development


def test_dev_needs_no_settings() -> None:
    settings = developing()
    assert settings.dev is True
    assert [provider.type for provider in settings.providers.values()] == ["capture"]
    assert (settings.host, settings.database_url) == ("127.0.0.1", "sqlite:///data/dev.db")
    assert settings.connector.authorization == ()
    assert settings.sender.name == "Mailroom"


def test_only_the_owner_can_read_the_dev_key() -> None:
    key = developing().secret_key
    assert developing().secret_key == key
    file = Path("data/dev-secret-key")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_dev_adds_missing_settings_only() -> None:
    settings = developing(FILE.replace(HEADER, "short"))
    assert settings.secret_key[0].get_secret_value() == KEY
    assert list(settings.providers) == ["main"]
    assert settings.connector.authorization[0].get_secret_value() == "short"
    assert not Path("data").exists()


def test_dev_listens_on_loopback_only() -> None:
    assert list(faults(environ={"MAILROOM_HOST": "0.0.0.0"}, load=developing)) == ["MAILROOM_HOST"]
    assert developing(PORT="5000", HOST="0.0.0.0").host == "127.0.0.1", "a platform's names open nothing"
    assert developing(MAILROOM_HOST="::1").host == "::1"


def test_dev_reports_faults() -> None:
    assert list(faults('port = "x"', load=developing)) == ["port"]


def test_dev_reports_that_its_key_cannot_be_stored() -> None:
    Path("data").write_text("a file in the way")
    assert "data/dev-secret-key" in faults(load=developing)["secret_key"]


# ---- whatever is written


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
VARIABLES = st.dictionaries(
    st.sampled_from(
        [
            *(variable(path) for path, _ in leaves()),
            *(variable(path) for path, _ in leaves(Pigeon, ("providers", "main"))),
            *("MAILROOM_CONNECTOR", "MAILROOM_BRAND", "MAILROOM_PROVIDERS__MAIN", "MAILROOM_ROUTES__DEFAULT"),
            *(
                "PORT",
                "HOST",
                "DATABASE_URL",
                "MAILROOM_",
                "MAILROOM___",
                "MAILROOM_ROUTES__",
                "MAILROOM_PROVIDERS____A",
            ),
        ]
    ),
    JSON.map(json.dumps) | st.text(st.characters(exclude_characters="\0"), max_size=30),
    max_size=6,
)


@hypothesis_settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(VARIABLES, st.booleans())
@example({"MAILROOM_PROVIDERS": '{"": {}, "a": {"type": []}}'}, False)
@example({"MAILROOM_SECRET_KEY": "[" * 100_000}, False)
@example({"MAILROOM_CONNECTOR__ALLOWED_IPS": "[false, 5]"}, False)
@example({"MAILROOM_WEBHOOK__EVENTS": '{"User.Created": {}}'}, False)
def test_any_variables_become_settings_or_faults(variables: dict[str, str], enough: bool) -> None:  # noqa: FBT001 - drawn
    found: list[Fault] | Settings
    try:
        found = load(environ=ENOUGH | variables if enough else variables)
    except SettingsError as error:
        found = error.faults
    if isinstance(found, Settings):
        assert found.providers
        assert len(found.secret_key[0].get_secret_value()) >= 32
    else:
        assert found
        assert all(fault.path and fault.problem for fault in found)


def test_a_providers_sandbox_is_a_warning(tmp_path: Path) -> None:
    """It accepts every mail and sends none."""
    file = tmp_path / "mailroom.toml"
    file.write_text(
        'from = "a@acme.example"\n'
        f'secret_key = "{"k" * 40}"\n'
        f'connector.authorization = "{"a" * 40}"\n'
        'providers.main = { type = "sendgrid", api_key = "SG.0123456789", sandbox = true }\n'
        'providers.backup = { type = "brevo", api_key = "xkeysib-0123456789" }\n'
    )
    found = warnings(load(environ={}, config=file))
    assert found == ["provider main is in its sandbox: mails are checked and none is sent"]
