"""Finding files, and what differs between two trees."""
