"""Checks of this system and of a VM: what is usable, what is missing, and the remedy."""
