"""What Mailroom promises, and the proof of it."""
