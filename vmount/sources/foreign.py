"""Files of unsupported formats that could be mistaken for a raw image."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from vmount.errors import SourceError

if TYPE_CHECKING:
    from vmount.parsers.reader import BlockSource

RAW_PREFIX = "raw:"
"""Before a path: open the file as a raw image, whatever its content."""

FOREIGN_IMAGES = (
    (0, b"QFI\xfb", "a QCOW2 image"),
    (0, b"conectix", "a VHD image"),
    (0, b"vhdxfile", "a VHDX image"),
    (0x40, b"\x7f\x10\xda\xbe", "a VirtualBox VDI image"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b\x08", "a gzip file"),
    (257, b"ustar", "a tar archive (an OVA, perhaps)"),
)
"""Files that hold a disk in a form that is not read here, and would pass for a raw image."""


async def refuse_foreign(source: BlockSource, name: str) -> None:
    """Raise SourceError for what would pass for a raw image and is not one."""
    head = bytes(await source.read(0, min(512, source.size)))
    for offset, magic, what in FOREIGN_IMAGES:
        if head[offset : offset + len(magic)] == magic:
            raise SourceError(f"{name}: is {what}", remedy="convert or unpack it first")
    path = PurePosixPath(name)
    if path.suffix.lower() == ".vmdk" and not path.stem.endswith(("-flat", "-rdmp", "-rdm")):
        raise SourceError(
            f"{name}: has neither a VMDK header nor a descriptor",
            remedy=f"to open it as a raw image, write {RAW_PREFIX}{path}",
        )
