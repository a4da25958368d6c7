"""Looks up and evaluates SPF, DKIM and DMARC records; imports nothing of the rest of Mailroom."""
