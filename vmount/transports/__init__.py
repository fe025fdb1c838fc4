"""Ways to reach the bytes of a disk."""
