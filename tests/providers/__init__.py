"""Providers, each held to the same promises by `contract.py`."""
