"""Checks 9 and 10: images have an alt text, a URL, and a format that mail clients show."""

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from mailroom.lint.rule import RenderedMail, Violation
from mailroom.text import bounded

_UNSUPPORTED_SUFFIX: Final = re.compile(r"\.(svgz?|webp|avif|heic)\Z", re.IGNORECASE)
_CSS_URL: Final = re.compile(r"url\(\s*['\"]?([^'\")]*)", re.IGNORECASE)


def check_image_alt_and_url(mail: RenderedMail) -> Iterator[Violation]:
    """Check 9."""
    for image in mail.page.all("img"):
        attributes = image.etree_element.attrib
        if "alt" not in attributes:
            remedy = 'write alt="…", or alt="" for a decorative image'
            yield Violation(9, "an image has no alt text", remedy, html=mail.page.tag_of(image))
        source = attributes.get("src", "").strip()
        if _is_data(source):
            continue  # reported by check 10
        parts = urlsplit(source)
        if parts.scheme.lower() != "https" or not parts.netloc:
            problem = f"an image's URL is {bounded(source, 60) or 'empty'}"
            remedy = "use an absolute https URL"
            yield Violation(9, problem, remedy, html=mail.page.tag_of(image))


def check_image_formats(mail: RenderedMail) -> Iterator[Violation]:
    """Check 10."""
    remedy = "use a PNG, JPEG or GIF at an https URL: Gmail and Outlook do not show other formats"
    for element in mail.page.elements:
        attributes = element.etree_element.attrib
        urls = [attributes.get("src", ""), attributes.get("background", "")]
        urls += _CSS_URL.findall(attributes.get("style", ""))
        urls += [part.split()[0] for part in attributes.get("srcset", "").split(",") if part.split()]
        if element.local_name == "svg":
            yield Violation(10, "there is an <svg>", remedy, html=mail.page.tag_of(element))
        for url in filter(_is_unsupported, map(str.strip, urls)):
            problem = f"mail clients do not show {bounded(url, 60)}"
            yield Violation(10, problem, remedy, html=mail.page.tag_of(element))
    for sheet in mail.page.style_sheets:
        for url in filter(_is_unsupported, _CSS_URL.findall(sheet)):
            yield Violation(10, f"mail clients do not show {bounded(url, 60)}", remedy, html=mail.page.line_with(url))


def _is_unsupported(url: str) -> bool:
    return _is_data(url) or _UNSUPPORTED_SUFFIX.search(urlsplit(url).path) is not None


def _is_data(url: str) -> bool:
    return url[:5].lower() == "data:"
