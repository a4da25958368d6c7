"""The vendors' SMTP endpoints: an operator names the vendor instead of host, port and encryption."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Name = Literal["gmail", "sendgrid", "aliyun", "outlook", "ses", "mailgun", "postmark", "resend", "brevo"]


@dataclass(frozen=True, slots=True)
class Preset:
    """One vendor's endpoint."""

    host: str
    """`{region}` stands for the `region` setting."""
    port: int = 587
    tls: str = "starttls"
    username: str = ""
    """The same for every account, which the password identifies."""
    hosts: Mapping[str, str] | None = None
    """Region → host where the names follow no rule."""
    access_url: str | None = None
    """The endpoint for OAuth2 tokens."""
    scope: str | None = None
    concurrency: int | None = None
    """How many connections at the same time the vendor allows or recommends, where its documentation says so."""


PRESETS: Final[Mapping[str, Preset]] = {
    "gmail": Preset(
        "smtp.gmail.com", access_url="https://oauth2.googleapis.com/token", scope="https://mail.google.com/"
    ),
    "sendgrid": Preset("smtp.sendgrid.net", username="apikey"),
    "aliyun": Preset(
        "smtpdm.aliyun.com",
        465,  # 25 is closed on their own machines
        "implicit",
        hosts={
            "cn-hangzhou": "smtpdm.aliyun.com",
            "ap-southeast-1": "smtpdm-ap-southeast-1.aliyuncs.com",
            "ap-southeast-2": "smtpdm-ap-southeast-2.aliyun.com",  # closed to new accounts
            "us-east-1": "smtpdm-us-east-1.aliyuncs.com",
            "eu-central-1": "smtpdm-eu-central-1.aliyuncs.com",
        },
    ),
    "outlook": Preset(
        "smtp.office365.com",
        scope="https://outlook.office365.com/.default",
        concurrency=3,  # learn.microsoft.com/exchange/troubleshoot/send-emails/smtp-submission-improvements
    ),
    "ses": Preset("email-smtp.{region}.amazonaws.com"),
    "mailgun": Preset("smtp.mailgun.org", hosts={"us": "smtp.mailgun.org", "eu": "smtp.eu.mailgun.org"}),
    # an IP address: postmarkapp.com/support/article/do-we-have-rate-limits-for-smtp
    "postmark": Preset("smtp.postmarkapp.com", concurrency=10),
    "resend": Preset("smtp.resend.com", username="resend"),
    "brevo": Preset("smtp-relay.brevo.com"),
}

_IAM_SECRET_LENGTH: Final = 40
_PORTS: Final = {"starttls": 587, "implicit": 465, "opportunistic": 587, "none": 25}
"""The usual ports by `tls`."""
_IMPLICIT_PORT: Final = 465
"""On it servers expect TLS from the first octet (RFC 8314 §3.3)."""


def fill_in(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with the preset's values, or those that go with the given port or `tls`, where none is given.

    Raises ValueError for a bad `region`.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    usual_port = _PORTS.get(str(given.get("tls")))
    if usual_port is not None and "port" not in given:
        given["port"] = usual_port
    elif str(given.get("port")) == str(_IMPLICIT_PORT) and "tls" not in given:
        given["tls"] = "implicit"
    preset = PRESETS.get(str(given.get("preset")))
    if preset is None:
        if "region" in given:
            raise ValueError("region goes with a preset that has several: aliyun, mailgun, ses")
        return given
    defaults: dict[str, Any] = {"host": given.get("host") or _host(preset, given.get("region"))}
    if "tls" not in given and "port" not in given:  # one without the other would not belong together
        defaults |= {"port": preset.port, "tls": preset.tls}
    if preset.concurrency:
        defaults["concurrency"] = preset.concurrency
    if preset.username:
        defaults["username"] = preset.username
    elif given.get("preset") == "postmark" and "oauth2" not in given and "password" in given:
        defaults["username"] = given["password"]  # a server token is both
    if isinstance(oauth2 := given.get("oauth2"), Mapping):
        tokens = {"access_url": preset.access_url, "scope": preset.scope}
        given["oauth2"] = tokens | {name: value for name, value in oauth2.items() if value is not None}
    return defaults | given


def _host(preset: Preset, region: Any) -> str:
    if preset.hosts:
        if region is not None and region not in preset.hosts:
            raise ValueError(f"there is no such region; there are: {', '.join(preset.hosts)}")
        return preset.hosts.get(region, preset.host)
    if "{region}" in preset.host:
        if not region:
            raise ValueError("this preset needs a region, as in eu-west-1")
        return preset.host.replace("{region}", str(region))
    if region is not None:
        raise ValueError("this preset has no regions")
    return preset.host


def check_login(name: str, *, username: str | None, password: str | None) -> None:
    """Raise ValueError for a login that the vendor would refuse, with a clearer message than the vendor's."""
    fixed = PRESETS[name].username
    if fixed and username != fixed:
        raise ValueError(f"the username is {fixed!r} for everybody; the API key is the password")
    if name == "ses" and password is not None and len(password) == _IAM_SECRET_LENGTH:
        raise ValueError("this is the secret key of an IAM user; SES wants SMTP credentials (SMTP settings, Create)")
    if name in ("gmail", "outlook") and username is not None and "@" not in username:
        raise ValueError("the username is the mailbox's whole address")
