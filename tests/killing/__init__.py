"""Every command killed and interrupted at random moments: `python -m tests.killing --tries 30`."""
