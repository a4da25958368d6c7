"""Whose mail it is: the name and the logo that its reader knows, from organization, application or brand."""

from typing import Any, Final, TypedDict

import msgspec

from mailroom.message import Address, Payload
from mailroom.rendering import Brand
from mailroom.rendering.inert import name
from mailroom.rendering.links import logo

_BUILT_IN: Final = ("demo-app", "account-center")
"""Logto's own applications: "Account Center" is nobody's product."""


class Logo(TypedDict):
    """A picture that stands for a name; a dict, for the sandbox looks at those fastest."""

    url: str
    dark_url: str
    """For a dark background; may be empty."""
    name: str
    """Whose it is; shown where pictures are not."""


class Identity(msgspec.Struct, frozen=True):
    """How the mail calls its sender."""

    app: str
    """What the reader signs in to: the organization's, else the application's, else the brand's name."""
    organization: str
    """Where the reader is invited to; `app` where the payload does not say."""
    platform: str
    """Who vouches for the mail.

    In many products anybody can make an organization and name it after a bank: its name and logo
    are shown, and so is this one, which only the operator can choose.
    """
    logo: Logo | None


def identify(payload: Payload, brand: Brand, sender: Address) -> Identity:
    """Read names and logos from a payload; `organization` may be a string, and anything may be missing or null."""
    organization, application = payload.get("organization"), payload.get("application")
    platform = _application_name(application) or brand.name or sender.name or sender.email.partition("@")[2]
    organization_name = name(organization) or name(_get(organization, "name"))
    app = organization_name or platform
    return Identity(
        app=app,
        organization=organization_name or app,
        platform=platform,
        logo=_logo(_get(organization, "branding"), organization_name or platform)
        or _logo(_get(application, "branding"), platform)
        or _brand_logo(brand, platform),
    )


def person(value: Any) -> str:
    """Return what to call a user of Logto, who may be an object or, in an invitation, a plain string."""
    return name(value) or name(_get(value, "name")) or name(_get(value, "username"))


def _application_name(application: Any) -> str:
    if _get(application, "id") in _BUILT_IN:
        return ""
    return name(_get(application, "displayName")) or name(_get(application, "name"))


def _logo(branding: Any, owner: str) -> Logo | None:
    url = logo(_get(branding, "logoUrl"))
    return Logo(url=url, dark_url=logo(_get(branding, "darkLogoUrl")), name=owner) if url else None


def _brand_logo(brand: Brand, owner: str) -> Logo | None:
    url = logo(brand.logo_url)
    return Logo(url=url, dark_url=logo(brand.dark_logo_url), name=brand.name or owner) if url else None


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None
