"""What comes in over HTTP: one file a door."""
