"""Measures Mailroom against bare parts, side by side in one run; `make bench` prints the table."""
