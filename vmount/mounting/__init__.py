"""The process that serves a mount, and those that talk to it."""
