"""The settings of providers over HTTP."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from mailroom.providers.egress import Proxy, parse_proxy
from mailroom.providers.resend import Settings

KEY = "re_AbCdEfGh_0123456789"


def settings(**given: object) -> Settings:
    return Settings.model_validate({"api_key": KEY, **given})


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://gateway.acme.example", "https://gateway.acme.example"),
        ("https://gateway.acme.example/", "https://gateway.acme.example"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
    ],
)
def test_an_endpoint_is_scheme_host_and_port(given: str, kept: str) -> None:
    assert settings(endpoint=given).endpoint == kept


@pytest.mark.parametrize(
    "given",
    [
        *("gateway.acme.example", "ftp://gateway.acme.example", "https://", "https://a b", "https://[::1", "//host"),
        *("https://host/v1", "https://host?x=1", "https://host#x", "https://host:99999", "https://host:0"),
        *("https://user:pass@host", "https://host\r\nX: y", f"https://{'a' * 64}.example", "https://host:x", ""),
    ],
)
def test_any_other_endpoint_is_refused(given: str) -> None:
    with pytest.raises(ValidationError):
        settings(endpoint=given)


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy.acme.example", Proxy("http", "proxy.acme.example", 80)),
        ("https://proxy.acme.example", Proxy("https", "proxy.acme.example", 443)),
        ("socks5://10.0.0.1", Proxy("socks5", "10.0.0.1", 1080)),
        ("socks5h://u:p@[2001:db8::1]:9050", Proxy("socks5h", "2001:db8::1", 9050, "u", "p")),
        ("http://u%40acme:p%3A%2F@proxy:3128", Proxy("http", "proxy", 3128, "u@acme", "p:/")),
    ],
)
def test_a_proxy_is_a_url(url: str, proxy: Proxy) -> None:
    assert parse_proxy(SecretStr(url)) == proxy


@pytest.mark.parametrize(
    "url",
    [
        *("proxy:3128", "ftp://proxy", "socks4://proxy", "http://", "http://proxy/path", "http://proxy:0"),
        *("http://:s3cr3t@proxy", f"socks5://user:{'s3cr3t' * 50}@proxy", "http://user:s3cr3t@", "http://s3cr3t@[::1"),
    ],
)
def test_a_faulty_proxy_is_refused_without_showing_its_login(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(proxy=url)
    assert all("s3cr3t" not in fault["msg"] for fault in refused.value.errors(include_input=False))


@pytest.mark.parametrize(
    "key", ["", "short", "with blanks in it", "line\nbreak-0123456789", "ключ-0123456789", "x" * 5000]
)
def test_a_key_that_is_no_header_value_is_refused(key: str) -> None:
    with pytest.raises(ValidationError):
        settings(api_key=key)


def test_no_secret_is_shown() -> None:
    given = settings(proxy="socks5://user:s3cr3t@proxy")
    assert KEY not in f"{given!r} {given}"
    assert "s3cr3t" not in f"{given!r} {given} {parse_proxy(SecretStr('socks5://user:s3cr3t@proxy'))!r}"


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"])
def test_an_unusable_ca_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValidationError, match="ca_file"):
        settings(ca_file=path)


def test_a_local_address_is_an_ip_address() -> None:
    assert str(settings(local_address="203.0.113.9").local_address) == "203.0.113.9"
    with pytest.raises(ValidationError):
        settings(local_address="eth0")
