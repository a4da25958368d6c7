"""What a template is made of: Jinja's syntax in a sandbox, and Logto's own placeholders."""
