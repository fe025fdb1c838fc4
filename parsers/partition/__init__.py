"""MBR and GPT."""
