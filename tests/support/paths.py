"""Where the checkout and the data beside it are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The top folder of the checkout."""
