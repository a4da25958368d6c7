"""The translations of the mails, and the choice of a reader's language."""
