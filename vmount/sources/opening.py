"""From what the user names to open disks.

A source is a VMDK, a .vmx (all disks of a machine), a raw image, a block device or an NBD server's URI.
What a file is, its content decides; its name only helps to word the refusal. What only some kinds of sources
need is imported when there is one: that takes as long as many a command.
"""

from __future__ import annotations

import logging
import os
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from vmount.backends.local_file import LocalFile
from vmount.datastores.path import DatastorePathError
from vmount.disks.disk import ChainLink, Disk, disk_of, path_component, unique_name
from vmount.disks.remote import WEB, RemoteDisk, RemoteOptions, exports_of, is_nbd, is_san
from vmount.errors import SourceError, explain
from vmount.parsers.errors import NotRecognised, ParseError
from vmount.parsers.ntfs import NtfsOptions
from vmount.parsers.vmdk.chain import ParentChanged
from vmount.parsers.vmdk.disk import open_vmdk
from vmount.parsers.vmdk.vmx import parse_vmx
from vmount.sources.machine_files import LocalFileOpener, check_reach
from vmount.sources.machine_options import FORCE, MachineOptions, is_machine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vmount.parsers.reader import BlockSource
    from vmount.runtime import Runtime
    from vmount.sources.virtual_machine import MachineInfo
    from vmount.state import Journal

log = logging.getLogger(__name__)

RAW_PREFIX = "raw:"
"""In front of a path: take the file as it is, whatever it looks like."""
KINDS = "a SOURCE is a .vmx, a VMDK, a raw image, a block device or an nbd:// or https:// address"

LARGEST_VMX = 1 << 20
"""Bytes. A .vmx is a few KiB; what is larger is something else."""

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


@dataclass(frozen=True)
class OpenOptions:
    """How sources are opened."""

    force: bool = False
    """Open a snapshot chain whose parent has changed since."""
    remote: RemoteOptions = field(default_factory=RemoteOptions)
    machine: MachineOptions = field(default_factory=MachineOptions)
    """How virtual machines are found and read."""
    drives: Mapping[str, str] = field(default_factory=dict)
    """Names of volumes by the drive letters that they are to have."""
    ntfs: NtfsOptions = field(default_factory=NtfsOptions)
    """How volumes with NTFS are shown."""


class OpenFiles:
    """What has been opened on the way to the disks of a set, and is closed with it."""

    def __init__(self, runtime: Runtime, journal: Journal | None = None) -> None:
        """`journal` takes what must be undone; without one no machine can be read."""
        self.runtime = runtime
        self.machines: list[MachineInfo] = []
        """What is told of the virtual machines that are open."""
        self._journal = journal
        self._stack = ExitStack()
        self._remotes: list[RemoteDisk] = []
        self._distant = AsyncExitStack()

    async def open_sources(self, sources: Sequence[str], options: OpenOptions) -> list[Disk]:
        """Open every disk of every source, in order.

        Raises SourceError for a source that is not there or not a disk. A disk of a machine that cannot
        be opened is in the result, with its problem, as long as another one can.
        """
        disks: list[Disk] = []
        taken: set[str] = set()
        for source in sources:
            if source.startswith(WEB):
                name = unique_name(f"disk{len(disks)}", taken)
                disks.append(await self._open_web(name, source, options))
            elif is_nbd(source):
                name = unique_name(f"disk{len(disks)}", taken)
                disks.append(await self._open_remote(name, source, options))
            elif is_san(source):
                disks += await self._open_san(source, options, taken)
            elif is_machine(source):
                disks += await self._open_vm(source, options, taken)
            elif source.lower().endswith(".vmx"):
                disks += await self._open_machine(source, options, taken)
            else:
                name = unique_name(f"disk{len(disks)}", taken)
                disks.append(await self._open_disk(name, source, source, options))
        return disks

    async def aclose(self) -> None:
        """Close all files and let go of all servers."""
        while self._remotes:
            await self._remotes.pop().aclose()
        await self._distant.aclose()
        self._stack.close()

    async def _open_remote(self, name: str, uri: str, options: OpenOptions) -> Disk:
        nursery = self.runtime.nursery
        assert nursery is not None, "a distant disk needs an event loop"
        try:
            remote = await RemoteDisk.open(uri, nursery, options.remote)
        except OSError as error:
            raise SourceError(explain(error), remedy=await _exports(uri, options)) from error
        self._remotes.append(remote)
        return Disk(name, uri, "raw", remote.data, transport=remote.name, remote=remote)

    async def _open_web(self, name: str, url: str, options: OpenOptions) -> Disk:
        """Open a disk on an HTTPS server by its descriptor; its other files are beside it."""
        from vmount.backends.https.client import HttpsClient, check_address
        from vmount.datastores.disk import DatastoreReading, open_datastore_disk
        from vmount.datastores.web import WebPlace, basic_credentials, split_url

        shown = url.partition("?")[0]
        try:
            check_address(url)
        except OSError as error:
            raise SourceError(str(error)) from error  # which does not repeat a password
        try:
            path, address = split_url(url)
        except DatastorePathError as error:
            raise SourceError(f"{shown}: {error}") from error
        client = HttpsClient(headers=basic_credentials(os.environ), options=options.remote.https)
        place = WebPlace(client, address)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(place.aclose)
            reading = DatastoreReading(options.remote.https_cache, options.force)
            try:
                opened = await open_datastore_disk(
                    place, path, self.runtime.nursery, reading, raw=True
                )
                stack.push_async_callback(opened.aclose)
                if opened.format == "raw":
                    await _refuse_foreign(opened.data, shown)
            except OSError as error:
                raise SourceError(explain(error)) from error
            except ParseError as error:
                remedy = FORCE if isinstance(error, ParentChanged) else ""
                raise SourceError(str(error.named(shown)), remedy=remedy) from error
            self._distant.push_async_callback(stack.pop_all().aclose)
        return disk_of(name, shown, "https", opened)

    async def _open_san(self, source: str, options: OpenOptions, taken: set[str]) -> list[Disk]:
        from vmount.datastores.san_source import OpenSan

        nursery = self.runtime.nursery
        assert nursery is not None, "LUNs need an event loop"
        try:
            opened = await OpenSan.open(
                source, options.machine.luns, nursery, options.remote, taken, force=options.force
            )
        except OSError as error:
            raise SourceError(explain(error)) from error
        except ParseError as error:
            remedy = FORCE if isinstance(error, ParentChanged) else ""
            raise SourceError(str(error.named(source)), remedy=remedy) from error
        self._distant.push_async_callback(opened.aclose)
        return opened.disks

    async def _open_vm(self, source: str, options: OpenOptions, taken: set[str]) -> list[Disk]:
        from vmount.sources.virtual_machine import OpenMachine

        machine = await OpenMachine.open(
            source,
            self.runtime,
            self._journal,
            options.machine,
            options.machine.reading(options.remote, force=options.force),
        )
        self._distant.push_async_callback(machine.aclose)
        self.machines.append(machine.info)
        return [replace(disk, name=unique_name(disk.name, taken)) for disk in machine.disks]

    async def _open_machine(self, source: str, options: OpenOptions, taken: set[str]) -> list[Disk]:
        path = Path(source)
        try:
            if path.stat().st_size > LARGEST_VMX:
                raise SourceError(f"{source}: too large to be a .vmx")
            machine = parse_vmx(path.read_bytes())
        except OSError as error:
            raise SourceError(explain(error)) from error
        except ParseError as error:
            raise SourceError(str(error.named(source))) from error
        disks = []
        for device in machine.disks:
            if not device.present:
                continue
            name = unique_name(path_component(device.address.replace(":", "-")), taken)
            location = str(path.parent / device.file_name)
            try:
                check_reach(Path(location), path)
                disks.append(await self._open_disk(name, device.file_name, location, options))
            except (SourceError, OSError) as error:
                problem = explain(error) if isinstance(error, OSError) else str(error)
                disks.append(Disk(name, device.file_name, "unknown", None, problem=problem))
        if not disks:
            raise SourceError(f"{source}: the machine has no virtual disk")
        if all(disk.data is None for disk in disks):
            raise SourceError("; ".join(disk.problem or "" for disk in disks))
        return disks

    async def _open_disk(self, name: str, shown: str, location: str, options: OpenOptions) -> Disk:
        """Open one disk. On failure nothing stays open."""
        path = location.removeprefix(RAW_PREFIX)
        if not path:
            raise SourceError("a source has an empty name", remedy=KINDS)
        if "://" in path and not Path(path).exists():
            raise SourceError(f"{path}: not an address that vmount opens", remedy=KINDS)
        with ExitStack() as stack:
            try:
                if location.startswith(RAW_PREFIX):
                    source = LocalFile(Path(location.removeprefix(RAW_PREFIX)), self.runtime)
                    stack.callback(source.close)
                    disk = _raw_disk(name, shown, source)
                else:
                    disk = await self._recognise(name, shown, location, options, stack)
            except IsADirectoryError as error:
                raise SourceError(explain(error), remedy=KINDS) from error
            except OSError as error:
                raise SourceError(explain(error)) from error
            except ParseError as error:
                remedy = FORCE if isinstance(error, ParentChanged) else ""
                raise SourceError(str(error.named(location)), remedy=remedy) from error
            self._stack.enter_context(stack.pop_all())
            return disk

    async def _recognise(
        self, name: str, shown: str, location: str, options: OpenOptions, stack: ExitStack
    ) -> Disk:
        opener = LocalFileOpener(self.runtime, stack)
        try:
            vmdk = await open_vmdk(opener, location, force=options.force)
        except NotRecognised:
            stack.close()
            source = LocalFile(Path(location), self.runtime)
            stack.callback(source.close)
            await _refuse_foreign(source, location)
            return _raw_disk(name, shown, source)
        chain = tuple(ChainLink(link.name, link.descriptor.create_type) for link in vmdk.links)
        return Disk(name, shown, vmdk.format, vmdk, chain, warnings=vmdk.warnings)


def absolute(source: str) -> str:
    """Name a file by its whole path, for whoever is somewhere else; other sources stay as they are."""
    return os.path.abspath(source) if Path(source).exists() else source  # noqa: PTH100 (links stay)


def _raw_disk(name: str, shown: str, source: LocalFile) -> Disk:
    if source.size == 0:
        raise SourceError(f"{source.path}: is empty")
    warnings = []
    if source.path.name.endswith("-flat.vmdk"):
        descriptor = source.path.name.replace("-flat.vmdk", ".vmdk")
        warnings.append(f"{source.path.name} is the data of {descriptor}: snapshots are left out")
    return Disk(
        name,
        shown,
        "raw",
        source,
        (ChainLink(str(source.path), "raw"),),
        warnings=tuple(warnings),
    )


async def _exports(uri: str, options: OpenOptions) -> str:
    """Return advice on which exports there are, if that can be had."""
    try:
        names = [export.name for export in await exports_of(uri, options.remote)]
    except OSError:
        return ""
    return f"the server exports: {', '.join(map(repr, names))}" if names else ""


async def _refuse_foreign(source: BlockSource, name: str) -> None:
    """Raise SourceError for what would pass for a raw image and is not one."""
    head = bytes(await source.read(0, min(512, source.size)))
    for offset, magic, what in FOREIGN_IMAGES:
        if head[offset : offset + len(magic)] == magic:
            raise SourceError(f"{name}: is {what}", remedy="convert or unpack it first")
    path = PurePosixPath(name)
    if path.suffix.lower() == ".vmdk" and not path.stem.endswith(("-flat", "-rdmp", "-rdm")):
        raise SourceError(
            f"{name}: has neither a VMDK header nor a descriptor",
            remedy=f"if it is a raw image all the same, name it {RAW_PREFIX}{path}",
        )
