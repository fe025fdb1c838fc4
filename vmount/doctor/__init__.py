"""Checks of this system and of a virtual machine: what can be used, what is missing, and the remedy."""
