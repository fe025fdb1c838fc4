"""What an open disk is, near or distant, and the devices that lie on it."""
