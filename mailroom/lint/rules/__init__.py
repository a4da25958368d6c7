"""The 22 checks, grouped by what they examine."""
