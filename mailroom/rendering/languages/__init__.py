"""The words of the mails in each language, and which language a reader gets."""
