"""What Logto sends, in one place: message types, event names, payload fields, the format of its numbers.

Sources: npm's `@logto/connector-kit` 5.1 (TemplateType) and the requests captured in tests/logto-wire.
"""

from collections.abc import Mapping
from decimal import Decimal
from math import isfinite, isinf
from typing import Any, Final

GENERIC: Final = "Generic"
"""The message type for which the others fall back."""
INVITATION: Final = "OrganizationInvitation"
"""The only message type with a link instead of a code."""
MESSAGE_TYPES: Final = (
    "SignIn", "Register", "ForgotPassword", INVITATION, GENERIC, "UserPermissionValidation",
    "BindNewIdentifier", "MfaVerification", "BindMfa",
)  # fmt: skip
CODE_TYPES: Final = frozenset(MESSAGE_TYPES) - {INVITATION}
"""The message types that carry a code."""

CONSOLE_TEST_CODE: Final = "000000"
"""The code that the console's connector test sends; it may be sent twice within a minute."""

USER_CREATED: Final = "User.Created"
USER_UPDATED: Final = "User.Data.Updated"
USER_DELETED: Final = "User.Deleted"
SUSPENSION_UPDATED: Final = "User.SuspensionStatus.Updated"
MEMBERSHIP_UPDATED: Final = "Organization.Membership.Updated"
IDENTIFIER_LOCKOUT: Final = "Identifier.Lockout"
"""The webhook events whose names have a meaning of their own in the code; others are named by the settings."""

NOT_FOR_MAILS: Final = frozenset({"hookId", "data", "userIp", "path", "method", "status", "params", "matchedRoute"})
"""The fields of a webhook's body that are no variables of mails: what they hold is under another name, or concerns the
request to the Management API that caused the event."""

PAYLOAD_FIELDS: Final = frozenset(
    {
        *("code", "link", "locale", "uiLocales", "application", "organization", "inviter", "user", "event", "ip"),
        *("id", "name", "displayName", "description", "type", "tenantId", "createdAt", "updatedAt", "customData"),
        *("branding", "logoUrl", "darkLogoUrl", "favicon", "darkFavicon", "color", "customCss", "isMfaRequired"),
        *("username", "primaryEmail", "primaryPhone", "avatar", "profile", "identities", "ssoIdentities"),
        *("applicationId", "cimdClientId", "isSuspended", "hasPassword", "lastSignInAt", "mfaVerificationFactors"),
        *("givenName", "familyName", "middleName", "nickname", "preferredUsername", "website", "gender"),
        *("birthdate", "zoneinfo", "address", "formatted", "streetAddress", "locality", "region", "postalCode"),
        *("country", "interactionEvent", "userAgent", "sessionId", "userId", "organizationId", "value", "recipient"),
        *("action", "addedUserIds", "removedUserIds", "revokedGrantIds", "maxAllowedGrants"),
        *("preRevocationActiveGrantCount", "adaptiveMfaResult"),
    }
)
"""The keys of Logto's own payloads, at any depth; all other keys are the tenant's data."""

_OWNER: Final = {
    **dict.fromkeys(("id", "name", "displayName"), ""),
    "branding": dict.fromkeys(("logoUrl", "darkLogoUrl", "favicon", "darkFavicon"), ""),
}
_ADDRESS: Final = ("formatted", "streetAddress", "locality", "region", "postalCode", "country")
_PROFILE: Final = (
    *("givenName", "familyName", "middleName", "nickname", "preferredUsername", "website", "gender", "birthdate"),
    *("zoneinfo", "locale"),
)
_USER: Final = {
    **dict.fromkeys(("id", "username", "name", "primaryEmail", "primaryPhone", "avatar"), ""),
    "profile": {**dict.fromkeys(_PROFILE, ""), "address": dict.fromkeys(_ADDRESS, "")},
}
_LOCALES: Final = {"locale": "", "uiLocales": ""}

CODE_VARIABLES: Final[Mapping[str, Any]] = {
    "code": "", **_LOCALES, "application": _OWNER, "organization": _OWNER, "user": _USER,
}  # fmt: skip
"""The fields of a payload with a code, all empty: Logto leaves out those that do not apply, or sends null."""
INVITATION_VARIABLES: Final[Mapping[str, Any]] = {
    "link": "", **_LOCALES, "application": _OWNER, "organization": _OWNER, "inviter": _USER,
}  # fmt: skip
"""Those of an invitation."""
EVENT_VARIABLES: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("event", "createdAt", "interactionEvent", "ip", "userAgent", "sessionId", "applicationId"), ""),
    **dict.fromkeys(("userId", "organizationId", "type", "value", "action", "recipient"), ""),
    **_LOCALES, "user": _USER, "application": _OWNER,
}  # fmt: skip
"""Those of a mail for a webhook event."""


def complete(given: Any, known: Any = "") -> Any:
    """Return a payload with all known fields, and empty texts instead of nulls, at any depth."""
    if given is None:
        return known
    if isinstance(given, Mapping):
        fields = known if isinstance(known, Mapping) else {}
        return {**fields, **{key: complete(value, fields.get(key, "")) for key, value in given.items()}}
    return [complete(item) for item in given] if isinstance(given, list) else given


EVENT_FIELDS: Final = frozenset(EVENT_VARIABLES) | {
    *("hookId", "path", "method", "status", "params", "matchedRoute", "data", "organizationRoleId", "addedUserIds"),
    *("removedUserIds", "addedApplicationIds", "removedApplicationIds", "revokedGrantIds", "maxAllowedGrants"),
    *("preRevocationActiveGrantCount", "adaptiveMfaResult", "userIp"),
}
"""The keys of webhook requests; those of `data` are the subject's own."""

_LARGEST_EXACT: Final = 2**53
_SMALLEST_DECIMAL: Final = 1e-6
_LARGEST_DECIMAL: Final = 1e21
"""Between these JavaScript writes a number without an exponent."""


def format_number(value: float) -> str:
    """Write a number as JavaScript does (ECMA-262 §6.1.6.1.20): the shortest digits that mean the same double."""
    if isinstance(value, int):
        if abs(value) <= _LARGEST_EXACT:
            return str(value)
        try:
            value = float(value)
        except OverflowError:
            value = float("inf") if value > 0 else float("-inf")
    if not isfinite(value):
        return ("Infinity" if value > 0 else "-Infinity") if isinf(value) else "NaN"
    if not value:
        return "0"
    shortest = Decimal(repr(value)).normalize()
    if _SMALLEST_DECIMAL <= abs(value) < _LARGEST_DECIMAL:
        return f"{shortest:f}"
    mantissa, _, exponent = f"{shortest:e}".partition("e")
    return f"{mantissa}e{int(exponent):+d}"


_PARTIAL_ROUTES: Final = ("/custom-data", "/profile")


def is_part_of_user(event: Mapping[str, Any]) -> bool:
    """Return whether `data` of an event is only a part of the user, with any keys: custom data, or the profile."""
    route = event.get("matchedRoute")
    return isinstance(route, str) and route.endswith(_PARTIAL_ROUTES)
