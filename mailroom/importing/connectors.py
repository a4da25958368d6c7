"""Converts a connector's configuration to a provider's settings; reports what Mailroom does not support."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from mailroom.config.fields import variable
from mailroom.importing import nodemailer
from mailroom.importing.plan import Connector, Ledger, ProviderPlan
from mailroom.importing.recognize import UNCERTAIN
from mailroom.logto import MESSAGE_TYPES
from mailroom.providers import ProviderSettings

Schemas = Callable[[str], type[ProviderSettings] | None]
"""Returns the settings that a type of provider has, or None where there is no such type."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """How a connector's keys map to settings."""

    settings: Mapping[str, tuple[str, ...]]
    """Logto's key → the setting; of several the first that the provider has."""
    secrets: Mapping[str, str]
    address: str
    """The key of the sender's address, and of the display name."""
    name: str = ""


_SHAPES: Final = {
    "sendgrid": _Shape({}, {"apiKey": "api_key"}, "fromEmail", "fromName"),
    "mailjunky": _Shape({}, {"apiKey": "api_key"}, "fromEmail", "fromName"),
    "smtp2go": _Shape({}, {"apiKey": "api_key"}, "sender", "senderName"),
    "postmark": _Shape({}, {"serverToken": "server_token"}, "fromEmail"),
    "mailgun": _Shape({"endpoint": ("endpoint",), "domain": ("domain",)}, {"apiKey": "api_key"}, "from"),
    "aliyun": _Shape(
        {"accessKeyId": ("access_key_id",), "regionId": ("region", "region_id")},
        {"accessKeySecret": "access_key_secret"},
        "accountName",
        "fromAlias",
    ),
    "ses": _Shape(
        {
            "accessKeyId": ("access_key_id",),
            "region": ("region",),
            "emailAddressIdentityArn": ("email_address_identity_arn",),
            "feedbackForwardingEmailAddress": ("feedback_forwarding_email_address",),
            "feedbackForwardingEmailAddressIdentityArn": ("feedback_forwarding_email_address_identity_arn",),
            "configurationSetName": ("configuration_set_name", "configuration_set"),
        },
        {"accessKeySecret": "access_key_secret"},
        "emailAddress",
    ),
    "smtp": _Shape({}, {}, "fromEmail"),
}
_TEMPLATES: Final = frozenset({"templates", "deliveries"})


def provider(connector: Connector, name: str, schemas: Schemas, ledger: Ledger) -> ProviderPlan | None:
    """Return the provider for the connector; None if Mailroom has no such type."""
    if connector.type == UNCERTAIN:
        why = "SendGrid's and MailJunky's configurations look alike, and the key does not decide it"
        ledger.leave_out(
            connector.source, "provider settings", why, "use --connector sendgrid or --connector mailjunky"
        )
        return None
    schema = schemas(connector.type)
    if schema is None:
        why = f"this Mailroom has no provider {connector.type}"
        ledger.leave_out(connector.source, "provider settings", why, "update Mailroom, or use another provider")
        return None
    fields = schema.model_fields
    known = frozenset(fields) | {field.alias for field in fields.values() if field.alias}
    settings, secrets = (
        nodemailer.settings_of(connector, known, ledger)
        if connector.type == "smtp"
        else _settings_of(connector, known, ledger)
    )
    templates = _aliases(connector, ledger)
    if templates:
        settings["templates"] = templates
    plan = ProviderPlan(
        connector.source, name, {"type": connector.type, **settings}, secrets, _sender(connector, ledger)
    )
    return _validate(plan, schema, known, ledger)


def _settings_of(connector: Connector, known: frozenset[str], ledger: Ledger) -> tuple[dict[str, Any], dict[str, str]]:
    shape = _SHAPES[connector.type]
    settings: dict[str, Any] = {}
    secrets: dict[str, str] = {}
    for key, value in connector.config.items():
        if value in (None, "") or key in _TEMPLATES or key in (shape.address, shape.name):
            continue
        if key in shape.secrets:
            secrets[shape.secrets[key]] = value
        elif key in shape.settings:
            names = shape.settings[key]
            settings[next((name for name in names if name in known), names[0])] = value
        else:
            ledger.leave_out(connector.source, key, "Mailroom has no such setting", "see docs/settings.md")
    return settings, secrets


def _sender(connector: Connector, ledger: Ledger) -> str | None:
    shape = _SHAPES[connector.type]
    address, name = connector.config.get(shape.address), connector.config.get(shape.name)
    if not isinstance(address, str) or not address:
        ledger.leave_out(connector.source, "from", f"the connector has no {shape.address}", "set from yourself")
        return None
    sender = f"{name} <{address}>" if isinstance(name, str) and name and "<" not in address else address
    if not sender.isprintable():
        ledger.leave_out(
            connector.source, "from", "it holds a line break or another control character", "set it yourself"
        )
        return None
    return sender


def _aliases(connector: Connector, ledger: Ledger) -> dict[str, str]:
    """Return kind → the template's name at the provider: Postmark's aliases, Mailgun's templates."""
    config = connector.config
    aliases: dict[str, str] = {}
    pairs: list[tuple[Any, Any, Mapping[str, Any]]] = []
    if connector.type == "postmark" and isinstance(config.get("templates"), list):
        listed = [template for template in config["templates"] if isinstance(template, dict)]
        pairs = [(template.get("usageType"), template.get("templateAlias"), {}) for template in listed]
    elif connector.type == "mailgun" and isinstance(config.get("deliveries"), dict):
        pairs = [
            (kind, delivery["template"], delivery)
            for kind, delivery in config["deliveries"].items()
            if isinstance(delivery, dict) and "template" in delivery and "html" not in delivery
        ]
    for kind, alias, delivery in pairs:
        if kind not in MESSAGE_TYPES or not isinstance(alias, str) or not alias:
            why = "its type is not one of Logto's, or its name is not a text"
            ledger.leave_out(connector.source, "template at the provider", why, "correct it in Logto, and import again")
            continue
        aliases.setdefault(kind, alias)
        for key in ("subject", "replyTo", "variables"):
            if delivery.get(key):
                why = "a template at the provider gets the payload's variables and nothing else"
                ledger.leave_out(f"{connector.source}: deliveries.{kind}", key, why, f"put it into {alias} at Mailgun")
    return aliases


def _validate(
    plan: ProviderPlan, schema: type[ProviderSettings], known: frozenset[str], ledger: Ledger
) -> ProviderPlan:
    """Return the plan without settings that the provider does not have or would refuse."""
    draft = _DraftSettings(dict(plan.settings), dict(plan.secrets), plan.sender)
    for name in dict.fromkeys([*draft.settings, *(secret.partition(".")[0] for secret in draft.secrets)]):
        if name not in known:
            draft.drop(name)
            why = f"this Mailroom has no setting {name} for {plan.settings['type']}"
            ledger.leave_out(plan.source, name, why, "update Mailroom, or omit it")
    try:
        schema.model_validate(draft.tree(), by_alias=True, by_name=False)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            name = str(detail["loc"][0]) if detail["loc"] else "provider settings"
            draft.drop(name)
            why = f"Mailroom would refuse it: {detail['msg'].removeprefix('Value error, ')}"
            ledger.leave_out(plan.source, name, why, "set it yourself")
    for name, value in list(draft.secrets.items()):
        if not (isinstance(value, str) and value.isprintable()):
            del draft.secrets[name]
            file = variable(("providers", plan.name, *name.split("."))) + "_FILE"
            why = "it is not a single line of text, as an environment file requires"
            ledger.leave_out(plan.source, name, why, f"put it into a file, and set {file} to its path")
    return ProviderPlan(plan.source, plan.name, draft.settings, draft.secrets, draft.sender)


@dataclass(slots=True)
class _DraftSettings:
    """A provider's settings while invalid ones are removed."""

    settings: dict[str, Any]
    secrets: dict[str, Any]
    sender: str | None

    def drop(self, name: str) -> None:
        """Remove a setting and the settings inside it."""
        if name == "from":
            self.sender = None
        self.settings.pop(name, None)
        self.secrets = {key: value for key, value in self.secrets.items() if key.partition(".")[0] != name}

    def tree(self) -> dict[str, Any]:
        """Return the settings as they are loaded, with secrets and sender."""
        tree = dict(self.settings)
        for key, value in self.secrets.items():
            above, _, inner = key.rpartition(".")
            if above:
                tree[above] = {**tree[above], inner: value}
            else:
                tree[key] = value
        return tree | ({"from": self.sender} if self.sender else {})
