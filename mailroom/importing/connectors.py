"""Converts a connector's configuration to a provider's settings; reports what Mailroom does not support."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import ValidationError

from mailroom import providers
from mailroom.config.fields import variable
from mailroom.importing import nodemailer
from mailroom.importing.plan import Connector, ImportLog, ProviderPlan
from mailroom.importing.recognize import UNCERTAIN
from mailroom.logto import MESSAGE_TYPES


@dataclass(frozen=True, slots=True)
class _KeyMap:
    """A connector's keys, and the settings for them."""

    settings: Mapping[str, str]
    secrets: Mapping[str, str]
    address: str
    """The key of the sender's address."""
    name: str = ""
    """The key of the sender's display name."""


_KEY_MAPS: Final = {
    "sendgrid": _KeyMap({}, {"apiKey": "api_key"}, "fromEmail", "fromName"),
    "mailjunky": _KeyMap({}, {"apiKey": "api_key"}, "fromEmail", "fromName"),
    "smtp2go": _KeyMap({}, {"apiKey": "api_key"}, "sender", "senderName"),
    "postmark": _KeyMap({}, {"serverToken": "server_token"}, "fromEmail"),
    "mailgun": _KeyMap({"endpoint": "endpoint", "domain": "domain"}, {"apiKey": "api_key"}, "from"),
    "aliyun": _KeyMap(
        {"accessKeyId": "access_key_id", "regionId": "region"},
        {"accessKeySecret": "access_key_secret"},
        "accountName",
        "fromAlias",
    ),
    "ses": _KeyMap(
        {
            "accessKeyId": "access_key_id",
            "region": "region",
            "emailAddressIdentityArn": "email_address_identity_arn",
            "feedbackForwardingEmailAddress": "feedback_forwarding_email_address",
            "feedbackForwardingEmailAddressIdentityArn": "feedback_forwarding_email_address_identity_arn",
            "configurationSetName": "configuration_set_name",
        },
        {"accessKeySecret": "access_key_secret"},
        "emailAddress",
    ),
    "smtp": _KeyMap({}, {}, "fromEmail"),
}


def provider(connector: Connector, name: str, log: ImportLog) -> ProviderPlan | None:
    """Return the provider for the connector; None if it is not certain which one that is."""
    if connector.type == UNCERTAIN:
        why = "SendGrid's and MailJunky's configurations look alike, and the key does not decide it"
        remedy = "use --connector sendgrid or --connector mailjunky"
        log.leave_out(connector.source, "provider settings", why, remedy)
        return None
    convert = nodemailer.settings_of if connector.type == "smtp" else _settings_of
    settings, secrets = convert(connector, log)
    settings = {"type": connector.type, **settings}
    if templates := _templates_at_provider(connector, log):
        settings["templates"] = templates
    return _validate(ProviderPlan(connector.source, name, settings, secrets, _sender(connector, log)), log)


def _settings_of(connector: Connector, log: ImportLog) -> tuple[dict[str, Any], dict[str, str]]:
    keys = _KEY_MAPS[connector.type]
    settings: dict[str, Any] = {}
    secrets: dict[str, str] = {}
    for key, value in connector.config.items():
        if value in (None, "") or key in ("templates", "deliveries", keys.address, keys.name):
            continue
        if key in keys.secrets:
            secrets[keys.secrets[key]] = value
        elif key in keys.settings:
            settings[keys.settings[key]] = value
        else:
            log.leave_out(connector.source, key, "Mailroom has no such setting", "see docs/settings.md")
    return settings, secrets


def _sender(connector: Connector, log: ImportLog) -> str | None:
    keys = _KEY_MAPS[connector.type]
    address, name = connector.config.get(keys.address), connector.config.get(keys.name)
    if not isinstance(address, str) or not address:
        log.leave_out(connector.source, "from", f"the connector has no {keys.address}", "set from yourself")
        return None
    sender = f"{name} <{address}>" if isinstance(name, str) and name and "<" not in address else address
    if not sender.isprintable():
        why = "it holds a line break or another control character"
        log.leave_out(connector.source, "from", why, "set it yourself")
        return None
    return sender


def _templates_at_provider(connector: Connector, log: ImportLog) -> dict[str, str]:
    """Return kind → the template's name at the provider: Postmark's aliases, Mailgun's templates."""
    config = connector.config
    names: dict[str, str] = {}
    triples: list[tuple[Any, Any, Mapping[str, Any]]] = []
    if connector.type == "postmark" and isinstance(config.get("templates"), list):
        rows = [template for template in config["templates"] if isinstance(template, dict)]
        triples = [(row.get("usageType"), row.get("templateAlias"), {}) for row in rows]
    elif connector.type == "mailgun" and isinstance(config.get("deliveries"), dict):
        triples = [
            (kind, delivery["template"], delivery)
            for kind, delivery in config["deliveries"].items()
            if isinstance(delivery, dict) and "template" in delivery and "html" not in delivery
        ]
    for kind, name, delivery in triples:
        if kind not in MESSAGE_TYPES or not isinstance(name, str) or not name:
            why = "its type is not one of Logto's, or its name is not a text"
            log.leave_out(connector.source, "template at the provider", why, "correct it in Logto, and import again")
            continue
        names.setdefault(kind, name)
        for key in ("subject", "replyTo", "variables"):
            if delivery.get(key):
                why = "a template at the provider gets the payload's variables and nothing else"
                log.leave_out(f"{connector.source}: deliveries.{kind}", key, why, f"put it into {name} at Mailgun")
    return names


def _validate(plan: ProviderPlan, log: ImportLog) -> ProviderPlan:
    """Return the plan without settings that the provider would refuse."""
    settings, sender = dict(plan.settings), plan.sender
    secrets: dict[str, Any] = dict(plan.secrets)
    try:
        providers.module_of(settings["type"]).Settings.model_validate(_as_table(plan), by_alias=True, by_name=False)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            name = str(detail["loc"][0]) if detail["loc"] else "provider settings"
            sender = None if name == "from" else sender
            settings.pop(name, None)
            secrets = {key: value for key, value in secrets.items() if key.partition(".")[0] != name}
            why = f"Mailroom would refuse it: {detail['msg'].removeprefix('Value error, ')}"
            log.leave_out(plan.source, name, why, "set it yourself")
    for name, value in list(secrets.items()):
        if not (isinstance(value, str) and value.isprintable()):
            del secrets[name]
            file = variable(("providers", plan.name, *name.split("."))) + "_FILE"
            why = "it is not a single line of text, as an environment file requires"
            log.leave_out(plan.source, name, why, f"put it into a file, and set {file} to its path")
    return replace(plan, settings=settings, secrets=secrets, sender=sender)


def _as_table(plan: ProviderPlan) -> dict[str, Any]:
    """Return the settings as they are loaded, with secrets and sender."""
    table = dict(plan.settings)
    for key, value in plan.secrets.items():
        above, _, inner = key.rpartition(".")
        if above:
            table[above] = {**table[above], inner: value}
        else:
            table[key] = value
    return table | ({"from": plan.sender} if plan.sender else {})
