"""The check: every mail that is wrong is caught, and by the check that says what is wrong."""
