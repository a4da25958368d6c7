"""The preview: files, and the page that a person opens."""
