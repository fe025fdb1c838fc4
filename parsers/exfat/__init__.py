"""exFAT."""

from parsers.exfat.filesystem import ExfatFilesystem
from parsers.exfat.open import open_exfat

__all__ = ["ExfatFilesystem", "open_exfat"]
