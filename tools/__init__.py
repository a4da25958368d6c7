"""Scripts for developers: they write the generated pages of docs/."""
