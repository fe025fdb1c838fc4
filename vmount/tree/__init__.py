"""What the mount and the API show: numbers, names and texts."""
