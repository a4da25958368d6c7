"""Determines the sender name and logo that a mail shows, from organization, application or brand."""

from typing import Any, Final, TypedDict

import msgspec

from mailroom.message import Address, Payload
from mailroom.rendering import Brand
from mailroom.rendering.links import logo
from mailroom.rendering.sanitize import name

_BUILT_IN: Final = ("demo-app", "account-center")
"""Ids of Logto's own applications; their names are not product names."""


class Logo(TypedDict):
    """A logo. A dict, because the Jinja sandbox reads dicts faster than objects."""

    url: str
    dark_url: str
    """For dark backgrounds; may be empty."""
    name: str
    """The owner's name; the alt text."""


class Identity(msgspec.Struct, frozen=True):
    """The names and the logo that a mail shows."""

    app: str
    """What the reader signs in to: the name of the organization, else of the application, else of the brand."""
    platform: str
    """The name of the application or brand, which only the operator can choose.

    In many products every user can create an organization and name it after a bank. Mails that show an
    organization's name therefore show this one too.
    """
    logo: Logo | None


def identify(payload: Payload, brand: Brand, sender: Address) -> Identity:
    """Return names and logo for a payload; `organization` may be a string, and every field may be missing or null."""
    organization, application = payload.get("organization"), payload.get("application")
    platform = _application_name(application) or brand.name or sender.name or sender.email.partition("@")[2]
    app = name(organization) or name(_get(organization, "name")) or platform
    brand_logo = {"logoUrl": brand.logo_url, "darkLogoUrl": brand.dark_logo_url}
    return Identity(
        app=app,
        platform=platform,
        logo=_logo(_get(organization, "branding"), app)
        or _logo(_get(application, "branding"), platform)
        or _logo(brand_logo, brand.name or platform),
    )


def person(value: Any) -> str:
    """Return the display name of a Logto user; in an invitation the user may be a plain string."""
    return name(value) or name(_get(value, "name")) or name(_get(value, "username"))


def given_name(value: Any) -> str:
    """Return the given name of a Logto user's profile, or an empty string."""
    return name(_get(_get(value, "profile"), "givenName"))


def _application_name(application: Any) -> str:
    if _get(application, "id") in _BUILT_IN:
        return ""
    return name(_get(application, "displayName")) or name(_get(application, "name"))


def _logo(branding: Any, owner: str) -> Logo | None:
    url = logo(_get(branding, "logoUrl"))
    return Logo(url=url, dark_url=logo(_get(branding, "darkLogoUrl")), name=owner) if url else None


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None
