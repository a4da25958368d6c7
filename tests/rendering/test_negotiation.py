"""Selecting the language of a mail among Logto's twenty languages."""

import pytest

from mailroom.rendering.languages.negotiation import _closest, choose

LOGTO = (
    *("ar", "cs", "de", "en", "es", "fa-IR", "fr", "it", "ja", "ko"),
    *("pl-PL", "pt-PT", "pt-BR", "ru", "th", "tr-TR", "uk-UA", "zh-CN", "zh-HK", "zh-TW"),
)
DEFAULT = "the default"


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("fr-CA", "fr"),
        ("pt", "pt-BR"),
        ("pt-AO", "pt-PT"),
        ("zh-Hant", "zh-TW"),
        ("zh-Hant-HK", "zh-HK"),
        ("zh-MO", "zh-HK"),
        ("en-AU", "en"),
        ("zh-Hans-HK", "zh-CN"),
        ("yue-HK", "zh-HK"),
        ("yue", "zh-HK"),
        ("uk", "uk-UA"),
        ("prs", "fa-IR"),
        ("gsw", "de"),
        ("be", DEFAULT),
        ("sk", DEFAULT),
        ("ca", DEFAULT),
        ("eu", DEFAULT),
        ("hr", DEFAULT),
        ("xx-YY", DEFAULT),
        ("en_US", "en"),
        *((tag, tag) for tag in LOGTO),
    ],
)
def test_a_reader_gets_a_language_that_they_read(tag: str, expected: str) -> None:
    assert choose((tag,), LOGTO, DEFAULT) == expected


def test_the_first_tag_that_fits_wins() -> None:
    assert choose(("sk", "de-AT", "fr"), LOGTO, DEFAULT) == "de"


@pytest.mark.parametrize("tag", ["", "a", "-", "de-", "12", "x-klingon", "\ud800", "de\n", "%", "é", "a" * 10_000])
def test_a_malformed_tag_is_passed_over(tag: str) -> None:
    assert choose((tag, "fr"), LOGTO, DEFAULT) in {"fr", "de"}


def test_without_tags_it_is_the_default() -> None:
    assert choose((), LOGTO, DEFAULT) == DEFAULT


def test_with_english_alone_everybody_gets_english() -> None:
    assert {choose((tag,), ("en",), "en") for tag in LOGTO} == {"en"}


def test_strangers_cannot_fill_the_memory_with_tags() -> None:
    assert _closest.cache_info().maxsize == 1024
