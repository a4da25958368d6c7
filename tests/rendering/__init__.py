"""How mails are written."""
