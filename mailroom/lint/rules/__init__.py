"""The 22 checks, by what they look at."""
