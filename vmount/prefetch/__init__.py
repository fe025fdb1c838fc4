"""Asking ahead of whoever reads a file or walks a tree on a distant disk."""
