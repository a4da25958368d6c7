"""Scripts of the Makefile: they install packages, and write the generated pages of docs/."""
