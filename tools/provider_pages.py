"""Puts each provider's settings into its own page: `python -m tools.provider_pages`."""

from pathlib import Path
from typing import Final

import click

from mailroom.config.reference import page

FOLDER: Final = Path(__file__).parents[1] / "docs" / "providers"
BEGIN: Final = "<!-- Written by `python -m tools.provider_pages`; a test fails when this table is not current. -->"
END: Final = "<!-- The end of what is written. -->"


def current(text: str, kind: str) -> str:
    """Return a provider's page with the table that docs/settings.md has for this type.

    Raises ValueError when the page lacks the two markers.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{kind}.md has no markers for its settings: {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{table(kind)}\n\n{END}{after}"


def table(kind: str) -> str:
    """Return the table of the settings that only this type has."""
    section = page().partition(f'### type = "{kind}"\n')[2].partition("\n#")[0]
    return section[section.index("| setting |") :].strip()


if __name__ == "__main__":
    for file in sorted(FOLDER.glob("*.md")):
        file.write_text(current(file.read_text(), file.stem))
        click.echo(file.name)
