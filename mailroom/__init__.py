"""What happens to a message, from the moment it is accepted until its last secret is erased; knows no HTTP server."""
