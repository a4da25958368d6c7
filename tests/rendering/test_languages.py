"""The twenty bundled languages: selection, completeness, rendering and scripts."""

import html
import re
import string
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from email import message_from_bytes, policy
from pathlib import Path
from shutil import copytree
from typing import Any, Final

import pytest
from babel import Locale as CldrLocale

from mailroom.errors import RenderingError
from mailroom.message import Email
from mailroom.rendering.languages.plurals import rule
from mailroom.rendering.languages.translations import parse
from mailroom.rendering.renderer import BUNDLED
from tests.rendering.samples import CODE_KINDS, KINDS, SENDER, full, make_renderer, message

LOGTO: Final = frozenset(
    (
        *("ar", "cs", "de", "en", "es", "fa-IR", "fr", "it", "ja", "ko"),
        *("pl-PL", "pt-PT", "pt-BR", "ru", "th", "tr-TR", "uk-UA", "zh-CN", "zh-HK", "zh-TW"),
    )
)
FILES: Final = {
    file.stem: tomllib.loads(file.read_text(encoding="utf-8")) for file in sorted((BUNDLED / "locales").glob("*.toml"))
}
WORDS: Final = {
    tag: {name: table for name, table in file.items() if isinstance(table, dict) and name != "dates"}
    for tag, file in FILES.items()
}
LATIN: Final = LOGTO - {"ar", "fa-IR", "ja", "ko", "ru", "th", "uk-UA", "zh-CN", "zh-HK", "zh-TW"}
SENTENCES_WITHOUT_SPACES: Final = ("ja", "ko", "zh-CN", "zh-HK", "zh-TW")
"""Twenty of their characters are as wide as forty letters."""

CODE: Final = {
    "ar": "رمز",
    "cs": "kód",
    "de": "code",
    "en": "code",
    "es": "código",
    "fa-IR": "کد",
    "fr": "code",
    "it": "codice",
    "ja": "コード",
    "ko": "인증번호",
    "pl-PL": "kod",
    "pt-BR": "código",
    "pt-PT": "código",
    "ru": "код",
    "th": "รหัส",
    "tr-TR": "kod",
    "uk-UA": "код",
    "zh-CN": "验证码",
    "zh-HK": "驗證碼",
    "zh-TW": "驗證碼",
}
"""The word that phones look for beside the digits."""

TWO_STEPS: Final = {
    "ar": "التحقق بخطوتين",
    "cs": "dvoufázové",
    "de": "2-schritte-",
    "en": "two-step",
    "es": "verificación en dos pasos",
    "fa-IR": "تأیید دو مرحله‌ای",
    "fr": "vérification en deux étapes",
    "it": "verifica in due passaggi",
    "ja": "2段階認証",
    "ko": "2단계 인증",
    "pl-PL": "dwuetapow",
    "pt-BR": "verificação em duas etapas",
    "pt-PT": "verificação em duas etapas",
    "ru": "двухфакторн",
    "th": "ยืนยันแบบสองขั้นตอน",
    "tr-TR": "2 aşamal",
    "uk-UA": "двоетапн",
    "zh-CN": "两步验证",
    "zh-HK": "雙重認證",
    "zh-TW": "兩步驟驗證",
}
"""Two-step verification as Logto's page calls it (`mfa.verify_mfa_factors` of `@logto/phrases-experience` 1.15), or
nearly: Spanish and Thai write the number as a word, Arabic and Hong Kong use the common term. Beginnings where it is
inflected."""

LETTERS: Final = {
    "ar": "cp1256",
    "cs": "cp1250",
    "de": "cp1252",
    "en": "cp1252",
    "es": "cp1252",
    "fr": "cp1252",
    "it": "cp1252",
    "ja": "cp932",
    "ko": "euc_kr",
    "pl-PL": "cp1250",
    "pt-BR": "cp1252",
    "pt-PT": "cp1252",
    "ru": "cp1251",
    "th": "cp874",
    "tr-TR": "cp1254",
    "uk-UA": "cp1251",
    "zh-CN": "gb2312",
    "zh-HK": "big5hkscs",
    "zh-TW": "big5",
}
"""The character set of a country holds its own letters and not its neighbours': no simplified sign in Taiwan's."""

HOSTILE: Final = '\u202e</td>"{{ 7*7 }}{app}%s\r\nBcc: x@evil.example\u2069 https://evil.example אבג'

SHAPES: Final[dict[str, dict[str, Any]]] = {
    "full": {},
    "minimal": {"user": {}, "application": {}, "organization": {}, "inviter": {}, "link": ""},
    "null": dict.fromkeys(("user", "application", "organization", "inviter", "link")),
    "hostile": {
        "user": {"name": HOSTILE},
        "application": {"name": HOSTILE, "branding": {"logoUrl": "javascript:alert(1)"}},
        "organization": {"name": HOSTILE},
        "inviter": HOSTILE,
        "link": HOSTILE,
        "lang": HOSTILE,
        "dir": HOSTILE,
        "words": HOSTILE,
    },
}

RENDERER: Final = make_renderer()
ITALIAN: Final = make_renderer(default_locale="it")


def texts(table: dict[str, Any]) -> Iterator[str]:
    """Yield every text below a table of translations."""
    for word in table.values():
        if isinstance(word, str):
            yield word
        else:
            yield from texts(word)


def placeholders(word: Any) -> set[str]:
    """Return the placeholders of a text except `minutes`, which may be a word ("one minute"), and the reader's name."""
    forms = [word] if isinstance(word, str) else list(texts(word))
    return {field for form in forms for _, field, _, _ in string.Formatter().parse(form) if field} - {"minutes", "name"}


def render(tag: str, kind: str, changes: dict[str, Any] | None = None) -> Email:
    payload = full(kind) | (changes or {}) | {"locale": tag}
    return RENDERER.render(message(kind, payload), sender=SENDER, reply_to=None)


def test_every_language_of_logto_is_there() -> None:
    assert set(WORDS) == LOGTO


@pytest.mark.parametrize("tag", sorted(LOGTO))
def test_every_language_says_the_same_with_the_same_variables(tag: str) -> None:
    assert WORDS[tag].keys() == WORDS["en"].keys()
    for kind, words in WORDS["en"].items():
        assert list(WORDS[tag][kind]) == list(words), kind
        for key, word in words.items():
            assert placeholders(WORDS[tag][kind][key]) == placeholders(word), (kind, key)


@pytest.mark.parametrize("tag", sorted(LOGTO))
def test_the_plural_forms_are_those_that_cldr_has_for_whole_numbers(tag: str) -> None:
    cldr = CldrLocale.parse(tag, sep="-").plural_form
    numbers = range(10_000)  # from a million on, Romance languages have another; a code lives for sixty minutes
    assert [rule(tag).form(number) for number in numbers] == [cldr(number) for number in numbers]
    assert set(rule(tag).forms) == {cldr(number) for number in numbers}
    assert set(WORDS[tag]["common"]["validity"]) == set(rule(tag).forms)


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("en", {1: "1 minute.", 2: "2 minutes."}),
        ("fr", {1: "1 minute.", 2: "2 minutes."}),
        ("cs", {1: "1 minutu.", 2: "2 minuty.", 4: "4 minuty.", 5: "5 minut.", 22: "22 minut."}),
        ("pl-PL", {1: "1 minutę.", 3: "3 minuty.", 5: "5 minut.", 12: "12 minut.", 22: "22 minuty."}),
        ("ru", {1: "1 минуту.", 2: "2 минуты.", 5: "5 минут.", 11: "11 минут.", 21: "21 минуту.", 60: "60 минут."}),
        ("uk-UA", {1: "1 хвилину.", 3: "3 хвилини.", 10: "10 хвилин.", 14: "14 хвилин.", 31: "31 хвилину."}),
        ("ar", {1: "دقيقة واحدة.", 2: "دقيقتين.", 3: "3 دقائق.", 10: "10 دقائق.", 11: "11 دقيقة.", 60: "60 دقيقة."}),
        ("fa-IR", {1: "تا ۱ دقیقه", 10: "تا ۱۰ دقیقه", 59: "تا ۵۹ دقیقه"}),  # noqa: RUF001 - Persian digits
        ("tr-TR", {1: "1 dakika geçerlidir.", 10: "10 dakika geçerlidir."}),
        ("ja", {1: "1分間有効です。", 10: "10分間有効です。"}),
    ],
)
def test_the_minutes_stand_in_the_case_of_their_number(tag: str, said: dict[int, str]) -> None:
    for minutes, words in said.items():
        renderer = make_renderer(code_lifetime=timedelta(minutes=minutes))
        payload = {"code": "314159", "locale": tag}
        assert words in renderer.render(message("SignIn", payload), sender=SENDER, reply_to=None).text


TABLE: Final = {
    "fr-CA": "fr",
    "pt": "pt-BR",
    "pt-AO": "pt-PT",
    "zh-Hant": "zh-TW",
    "zh-Hant-HK": "zh-HK",
    "zh-MO": "zh-HK",
    "en-AU": "en",
    "zh-Hans-HK": "zh-CN",
    "yue-HK": "zh-HK",
    "uk": "uk-UA",
    "prs": "fa-IR",
    "gsw": "de",
    **{tag: tag for tag in LOGTO},
}
"""Requested language -> the mail's. For Belarusian, Slovak and Catalan that is the default, not a neighbour's."""


@pytest.mark.parametrize("wanted", sorted(TABLE))
def test_a_request_gets_the_language_that_its_reader_reads(wanted: str) -> None:
    for payload in ({"locale": wanted}, {"uiLocales": f"tlh {wanted} en", "locale": "ko"}):
        assert written_in(payload) == TABLE[wanted]


@pytest.mark.parametrize("wanted", ["be", "sk", "ca", "tlh", "", None, 7, "not a tag"])
def test_a_reader_of_none_of_them_gets_the_default(wanted: Any) -> None:
    for payload in ({"locale": wanted}, {"uiLocales": wanted}, {"uiLocales": wanted, "locale": wanted}):
        assert written_in(payload) == "it"


def test_the_readers_languages_have_precedence_over_logtos_locale() -> None:
    assert written_in({"uiLocales": "sk be", "locale": "de"}) == "de"
    assert written_in({"uiLocales": "sk ja", "locale": "de"}) == "ja"


def written_in(payload: dict[str, Any]) -> str:
    """Return the language of a mail by a renderer whose default language is Italian."""
    return ITALIAN.render(message("SignIn", payload | {"code": "1"}), sender=SENDER, reply_to=None).language


@pytest.mark.parametrize(("wanted", "found"), [("pt", "pt-BR"), ("de-CH", "de"), ("zh-Hant", "zh-TW"), ("EN", "en")])
def test_the_default_may_be_a_relative(wanted: str, found: str) -> None:
    email = make_renderer(default_locale=wanted).render(message("SignIn", {"code": "1"}), sender=SENDER, reply_to=None)
    assert email.language == found


def test_an_unknown_default_language_is_reported_with_the_available_ones() -> None:
    with pytest.raises(RenderingError, match=r"default_locale: 'sk' has no translations; available: ar, cs, de, en, "):
        make_renderer(default_locale="sk")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tag", sorted(LOGTO))
def test_every_mail_is_sound(tag: str, kind: str, shape: str) -> None:
    email = render(tag, kind, SHAPES[shape])
    direction = "rtl" if tag in {"ar", "fa-IR"} else "ltr"
    assert f'<html lang="{tag}" dir="{direction}">' in email.html
    assert email.language == dict(email.headers)["Content-Language"] == tag
    parsed = message_from_bytes(email.raw, policy=policy.default)
    assert (parsed["Content-Language"], parsed["Subject"], parsed["To"]) == (tag, email.subject, "ada@example.com")
    assert "Bcc" not in parsed
    for said in (email.subject, email.text, html.unescape(email.html)):
        assert "None" not in said
        assert "javascript:" not in said
        assert "49" not in said
        assert "\u202e" not in said
        assert said.count("\u2068") == said.count("\u2069"), "no name ends its isolation"
    assert email.subject == " ".join(email.subject.split()) != ""
    if shape != "hostile":
        assert not re.search(r"[{}]", email.text + email.subject)
    if kind in CODE_KINDS:
        assert email.subject.startswith("314159")
        assert "\n    314159\n" in email.text
        assert email.html.count("314159") == 1
    if shape == "full" and kind not in CODE_KINDS:
        link = full(kind)["link"]
        assert f"\n{link}\n" in email.text
        assert f'href="{link}"' in email.html
    assert len(email.html) < 16_000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tag", sorted(LOGTO))
def test_subject_and_preheader_have_the_length_that_an_inbox_shows(tag: str, kind: str) -> None:
    name = "Acme Studios"
    email = render(tag, kind, {"application": {"name": name}, "organization": {"name": name}})
    assert len(email.subject) <= 60
    assert name in email.subject
    [preheader] = re.findall(r'<div style="display:none[^>]*>(.*?)</div>', email.html)
    shortest = 20 if tag in SENTENCES_WITHOUT_SPACES else 40
    assert shortest <= len(html.unescape(preheader)) <= 130


@pytest.mark.parametrize("kind", CODE_KINDS)
@pytest.mark.parametrize("tag", sorted(LOGTO))
def test_a_phone_finds_the_code_beside_its_word(tag: str, kind: str) -> None:
    subject = WORDS[tag][kind]["subject"]
    assert re.match(r"\{code\}(?: |, |: )", subject), "it begins with the code, whose digits touch no letter"
    assert CODE[tag] in subject.lower() or kind == "BindMfa"
    assert CODE[tag] in render(tag, kind).text.lower()


@pytest.mark.parametrize("tag", sorted(LOGTO))
def test_a_subject_names_what_the_code_does(tag: str) -> None:
    words = WORDS[tag]
    for key in ("subject", "title"):
        said = [words[kind][key] for kind in CODE_KINDS]
        assert len(set(said)) == len(said)
    for key in ("subject", "preheader", "title", "reason"):
        assert TWO_STEPS[tag] in words["BindMfa"][key].lower().replace("\u2011", "-"), "set-up is no activation"
    assert TWO_STEPS[tag] in words["MfaVerification"]["title"].lower().replace("\u2011", "-")


@pytest.mark.parametrize("tag", sorted(LETTERS))
def test_the_words_are_spelt_in_the_letters_of_their_language(tag: str) -> None:
    for text in texts(WORDS[tag]):
        assert text.replace("\u2011", "-").encode(LETTERS[tag]), text


@pytest.mark.parametrize("tag", sorted(LOGTO))
def test_the_words_are_set_as_in_print(tag: str) -> None:
    for text in texts(WORDS[tag]):
        assert not re.search(r"""['"`]|\.\.\.| - |  |^\s|\s$""", text), text
        assert not re.search(r"\b\w-\w", text), f"{text}: a line could end in e-"
        if tag == "fr":
            assert not re.search(r"[^\u00A0][:?!;]", text), text
        if tag == "fa-IR":
            assert not re.search("[كيىة0-9\u0660-\u0669]|(?:^| )ن?می ", text), text
            assert not re.search("\u200c(?:[ .،؛؟]|$)|(?:^| )\u200c", text), text
        if tag in {"ar", "fa-IR"}:
            assert not re.search("[,;?%]", text), text
        if tag in {"ja", "zh-CN", "zh-HK", "zh-TW"}:
            assert not re.search(r"[,;:?!]|[^\x00-\x7f]\.", text), text


@pytest.mark.parametrize("digits", ['"۰۱۲"', "9876543210", '"٠١٢٣٤٥٦٧٨٩ "'])
def test_digits_that_are_not_ten_are_a_fault(digits: str) -> None:
    words = (BUNDLED / "locales" / "fa-IR.toml").read_text(encoding="utf-8")
    changed = words.replace('"۰۱۲۳۴۵۶۷۸۹"', digits)
    with pytest.raises(RenderingError, match=r"fa-IR\.toml, line 3: digits must be the ten digits"):
        parse(changed, tag="fa-IR", place="locales/fa-IR.toml", minutes=10)


@pytest.mark.parametrize("tag", ["ar", "fa-IR"])
def test_a_name_runs_in_its_own_direction_within_a_line_from_right_to_left(tag: str) -> None:
    name = "24-7 Fitness (EU)!"
    email = render(tag, "SignIn", {"application": {"name": name}})
    isolated = f"\u2068{name}\u2069"
    assert isolated in email.subject
    assert isolated in email.text
    assert isolated in html.unescape(email.html)
    assert re.search(rf'<p class="link" dir="auto" [^>]*>{re.escape(name)}</p>', email.html)
    assert '<div class="ink" dir="ltr"' in email.html
    assert '<a class="link" dir="ltr" href="mailto:help@acme.example"' in email.html
    assert 'align="left"' not in email.html


@pytest.mark.parametrize("tag", ["en", "ko", "tr-TR"])
def test_a_name_from_right_to_left_does_not_turn_a_line_from_left_to_right(tag: str) -> None:
    """Otherwise a subject that begins with such a name would run from right to left."""
    email = render(tag, "OrganizationInvitation", {"organization": "מגדל 24-7", "inviter": "Grace"})
    for said in (email.subject, email.text, html.unescape(email.html)):
        assert "\u2068מגדל 24-7\u2069" in said
        assert "\u2068Grace" not in said, "others stay as they are"


@pytest.mark.parametrize("tag", ["ar", "fa-IR"])
def test_code_and_link_are_plain_to_a_program_that_looks_for_them(tag: str) -> None:
    email = render(tag, "SignIn")
    assert email.subject.startswith("314159 "), "no invisible sign before or after it"
    invitation = render(tag, "OrganizationInvitation")
    link = full("OrganizationInvitation")["link"]
    assert f"\n{link}\n" in invitation.text
    assert f'dir="ltr" href="{link}"' in invitation.html


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tag", sorted(LATIN))
def test_a_latin_page_needs_no_transfer_encoding(tag: str, kind: str) -> None:
    """Quoted-printable takes longer than the whole rest of the message: no line may need it."""
    email = render(tag, kind)
    assert email.html.isascii()
    assert max(map(len, email.html.split("\n"))) <= 998


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tag", sorted(LOGTO - LATIN))
def test_a_page_in_another_script_is_utf_8(tag: str, kind: str) -> None:
    """In references it would be unreadable to people who look at the source, and to naive filters."""
    email = render(tag, kind)
    assert WORDS[tag][kind]["title"].partition("{")[0].strip() in email.html
    assert not re.search("&#(?!847;|39;|34;)", email.html)
    part = list(message_from_bytes(email.raw, policy=policy.default).walk())[-1]
    assert part["Content-Transfer-Encoding"] in {"base64", "quoted-printable"}


@pytest.mark.parametrize("tag", sorted(LOGTO))
def test_no_letter_but_the_codes_is_spaced(tag: str) -> None:
    """Letter-spacing separates the joined letters of Arabic."""
    assert render(tag, "SignIn").html.count("letter-spacing") == 1
    assert "letter-spacing" not in render(tag, "OrganizationInvitation").html


def test_korean_breaks_lines_between_words() -> None:
    assert "word-break:keep-all" in render("ko", "SignIn").html
    assert "word-break:keep-all" not in render("ja", "SignIn").html


def test_a_long_name_without_spaces_stays_on_the_card() -> None:
    assert "overflow-wrap:anywhere" in render("de", "SignIn", {"application": {"name": "Donau" * 12}}).html


def test_a_kind_that_has_words_in_few_languages_is_said_in_the_default(tmp_path: Path) -> None:
    mails = copytree(BUNDLED, tmp_path / "mails")
    said = '\n[Goodbye]\nsubject = "{}"\npreheader = "x"\ntitle = "{}"\nreason = "{}"\n'
    for tag, word in (("en", "Goodbye"), ("de", "Auf Wiedersehen")):
        with (mails / "locales" / f"{tag}.toml").open("a", encoding="utf-8") as file:
            file.write(said.format(word, word, word))
    renderer = make_renderer(templates=mails)
    for wanted, tag in (("de-AT", "de"), ("ja", "en"), ("ja de", "de")):
        email = renderer.render(message("Goodbye", {"uiLocales": wanted, "code": "1"}), sender=SENDER, reply_to=None)
        assert (email.subject, email.language) == ({"de": "Auf Wiedersehen", "en": "Goodbye"}[tag], tag)


def test_a_kind_that_the_default_language_lacks_is_a_fault(tmp_path: Path) -> None:
    mails = copytree(BUNDLED, tmp_path / "mails")
    with (mails / "locales" / "de.toml").open("a", encoding="utf-8") as file:
        file.write('\n[Goodbye]\nsubject = "x"\n')
    with pytest.raises(RenderingError, match=r"de\.toml has \[Goodbye\], but en\.toml, the default, does not"):
        make_renderer(templates=mails)
