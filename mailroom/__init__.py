"""Stores, renders and sends messages, and erases their secrets. It does not depend on an HTTP server."""
