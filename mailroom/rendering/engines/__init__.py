"""The template engines: Jinja in a sandbox, and Logto's own placeholders."""
