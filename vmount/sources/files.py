"""A VMDK, a raw image or a block device of this system. Its content decides what it is."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.backends.local_file import LocalFile
from vmount.disks.disk import ChainLink, Disk
from vmount.errors import MissingSource, SourceError, explain
from vmount.options import FORCE
from vmount.parsers.errors import NotRecognised, ParseError
from vmount.parsers.vmdk.chain import ParentChanged
from vmount.parsers.vmdk.disk import open_vmdk
from vmount.sources.base import NotASource, SourceKind
from vmount.sources.foreign import RAW_PREFIX, refuse_foreign
from vmount.sources.local_opener import LocalFileOpener

if TYPE_CHECKING:
    from vmount.sources.base import Opening

_PART = re.compile(r"(.+)-(?:[sf]\d{3}|flat|delta|sesparse|ctk)\.vmdk", re.IGNORECASE)
"""Names of files that hold a part of the disk whose descriptor is named by the rest."""


async def open_file(source: str, opening: Opening) -> list[Disk]:
    """Open one disk. Raises SourceError."""
    return [await open_disk(opening.next_name(), source, source, opening)]


async def open_disk(name: str, shown: str, location: str, opening: Opening) -> Disk:
    """Open a file as the disk `name`; `shown` is what the user or a .vmx calls it.

    Raises SourceError; then nothing stays open.
    """
    path = location.removeprefix(RAW_PREFIX)
    if not path:
        raise NotASource("the name of a source is empty")
    if "://" in path and not Path(path).exists():
        raise NotASource(f"{path}: unsupported address")
    with ExitStack() as stack:
        try:
            if location.startswith(RAW_PREFIX):
                source = LocalFile(Path(path), opening.runtime)
                stack.callback(source.close)
                disk = _raw_disk(name, shown, source)
            else:
                disk = await _by_content(name, shown, location, opening, stack)
        except FileNotFoundError as error:
            raise MissingSource(explain(error), path) from error
        except IsADirectoryError as error:
            raise NotASource(explain(error)) from error
        except OSError as error:
            raise SourceError(explain(error)) from error
        except ParseError as error:
            remedy = FORCE if isinstance(error, ParentChanged) else _descriptor_advice(Path(path))
            raise SourceError(str(error.named(location)), remedy=remedy) from error
        opening.stack.callback(stack.pop_all().close)
        return disk


async def _by_content(
    name: str, shown: str, location: str, opening: Opening, stack: ExitStack
) -> Disk:
    opener = LocalFileOpener(opening.runtime, stack)
    try:
        vmdk = await open_vmdk(opener, location, force=opening.options.force)
    except NotRecognised:
        stack.close()
        source = LocalFile(Path(location), opening.runtime)
        stack.callback(source.close)
        await refuse_foreign(source, location)
        return _raw_disk(name, shown, source)
    chain = tuple(ChainLink(link.name, link.descriptor.create_type) for link in vmdk.links)
    return Disk(name, shown, vmdk.format, vmdk, chain, warnings=vmdk.warnings)


def _raw_disk(name: str, shown: str, source: LocalFile) -> Disk:
    if source.size == 0:
        raise SourceError(f"{source.path}: is empty")
    warnings = []
    if source.path.name.endswith("-flat.vmdk"):
        descriptor = source.path.name.replace("-flat.vmdk", ".vmdk")
        text = f"{source.path.name} is a data file of {descriptor}: its snapshots are ignored"
        is_beside = source.path.with_name(descriptor).exists()
        warnings.append(f"{text}; open {descriptor} to read them" if is_beside else text)
    return Disk(
        name,
        shown,
        "raw",
        source,
        (ChainLink(str(source.path), "raw"),),
        warnings=tuple(warnings),
    )


def _descriptor_advice(path: Path) -> str:
    """Return what to open in place of a file that is a part of a disk; "" if its name says nothing of it."""
    matched = _PART.fullmatch(path.name)
    if matched is None:
        return ""
    descriptor = path.with_name(f"{matched[1]}.vmdk")
    text = "it is an extent of a disk; open the descriptor of the disk"
    return f"{text}: {descriptor}" if descriptor.exists() else text


KIND = SourceKind(
    "file",
    "a VMDK, a raw image, a block device",
    lambda _source: True,
    open_file,
    is_remote=False,
)
