"""Plural forms, compared with CLDR's examples of integers."""

import pytest

from mailroom.rendering.languages.plurals import rule

CLDR = {
    "en": {"one": [1], "other": [0, 2, 10, 60]},
    "de": {"one": [1], "other": [0, 2, 10, 60]},
    "fr": {"one": [0, 1], "other": [2, 10, 60]},
    "pt-BR": {"one": [0, 1], "other": [2, 10, 60]},
    "pt-PT": {"one": [1], "other": [0, 2, 10, 60]},
    "fa-IR": {"one": [0, 1], "other": [2, 10, 60]},
    "tr-TR": {"one": [1], "other": [0, 2, 60]},
    "cs": {"one": [1], "few": [2, 3, 4], "other": [0, 5, 10, 22, 60]},
    "pl-PL": {"one": [1], "few": [2, 3, 4, 22, 24, 34], "many": [0, 5, 11, 12, 14, 21, 25, 60]},
    "ru": {"one": [1, 21, 31], "few": [2, 4, 22, 34], "many": [0, 5, 10, 11, 14, 20, 60]},
    "uk-UA": {"one": [1, 21, 31], "few": [2, 4, 22, 34], "many": [0, 5, 10, 11, 14, 20, 60]},
    "ar": {
        "zero": [0],
        "one": [1],
        "two": [2],
        "few": [3, 10, 103],
        "many": [11, 26, 60, 99],
        "other": [100, 101, 102, 200],
    },
    "ja": {"other": [0, 1, 2, 60]},
    "ko": {"other": [0, 1, 60]},
    "th": {"other": [0, 1, 60]},
    "zh-TW": {"other": [0, 1, 60]},
}


@pytest.mark.parametrize("tag", CLDR)
def test_a_number_has_the_form_of_cldr(tag: str) -> None:
    for form, numbers in CLDR[tag].items():
        assert {rule(tag).form(number) for number in numbers} == {form}


@pytest.mark.parametrize("tag", CLDR)
def test_a_language_has_just_the_forms_that_its_numbers_take(tag: str) -> None:
    assert set(rule(tag).forms) == set(CLDR[tag]) == {rule(tag).form(number) for number in range(300)}
