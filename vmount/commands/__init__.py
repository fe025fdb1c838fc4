"""The commands, one module each: `add_arguments` declares, `run` does."""
