"""How a copy of a mail looks, independent of the browser's preference."""

from mailroom.lint.samples import Sample
from mailroom.preview import View, view, with_look
from tests.lint.conftest import Copy

HTML = (
    '<html><head><meta name="color-scheme" content="light dark">\n'
    "<style>:root{color-scheme:light dark}@media ( prefers-color-scheme : dark ){.ink{color:#fff}}</style></head>"
    '<body><img class="light" src="https://cdn.example.com/logo.png" alt="Acme"></body></html>'
)


def test_dark_and_light_are_independent_of_the_browser() -> None:
    assert "@media all{.ink" in with_look(HTML, "dark")
    assert ":root{color-scheme:dark}" in with_look(HTML, "dark")
    assert "@media not all{.ink" in with_look(HTML, "light")
    assert ":root{color-scheme:light}" in with_look(HTML, "light")


def test_inverted_is_the_light_mail_through_a_filter() -> None:
    assert "@media not all{.ink" in with_look(HTML, "inverted")
    assert "html{filter:invert(1)" in with_look(HTML, "inverted")
    assert "filter" not in with_look(HTML, "light")


def test_inverted_leaves_pictures_as_they_are_and_not_their_texts() -> None:
    assert "img[src],[style*='gradient(']{filter:invert(1)" in with_look(HTML, "inverted")
    assert '<img class="light" alt' in with_look(HTML, "inverted", images=False)


def test_without_pictures_their_texts_stay() -> None:
    found = with_look(HTML, "light", images=False)
    assert "src=" not in found
    assert '<img class="light" alt="Acme">' in found


def test_the_samples_logo_is_replaced_by_a_drawing() -> None:
    assert "cdn.example.com" not in with_look(HTML, "light")
    assert 'src="data:image/svg+xml,' in with_look(HTML, "light")


def test_a_view_has_the_inbox_row_the_headers_and_the_findings(copy: Copy) -> None:
    copy.replace("layout.html.jinja", 'role="presentation" width="480"', 'width="480"')
    found = view(copy.context(), "SignIn", "de", Sample.FULL)
    assert isinstance(found, View)
    told = found.as_json()
    assert told["from"] == "Acme"
    assert told["subject"].startswith("314159 ist dein ")
    assert "10 Minuten" in told["preheader"]
    assert "Subject: 314159 ist dein " in told["headers"]
    assert [finding["check"] for finding in told["findings"]] == [8]
    assert told["size"]["html"] == len(found.mail.email.html.encode())
