"""exFAT."""

from vmount.parsers.exfat.filesystem import ExfatFilesystem
from vmount.parsers.exfat.open import open_exfat

__all__ = ["ExfatFilesystem", "open_exfat"]
