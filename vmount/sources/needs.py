"""The policy of the process that reads a set of sources: what it needs of this system."""

from __future__ import annotations

import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.errors import VmountError
from vmount.sandbox.policy import READING, Policy
from vmount.sandbox.system import network_files, program_files
from vmount.sources.files_named import files_named
from vmount.sources.foreign import RAW_PREFIX
from vmount.sources.registry import recognise
from vmount.state import StateDir

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.datastores.lun_choice import LunChoice
    from vmount.options import OpenOptions
    from vmount.vsphere.settings import ConnectionSettings

HTTPS_PORT = 443
DNS_PORT = 53
_DEVICES = Path("/dev")
_SYSFS = Path("/sys")
_MARKS = Path("/run/vmount")
"""Of disks that are attached, for udev (`transports.hotadd`)."""


def policy_for(
    sources: Sequence[str], options: OpenOptions, state_dir: Path, *, writable: Sequence[Path] = ()
) -> Policy:
    """Return what a process may do that reads the sources, and writes in the `writable` folders.

    The password of a machine's server must be known already. What is named by a file of a source (a parent,
    an extent) is found by opening it in another process, which can do nothing but read.
    """
    needs = _Needs([*program_files()])
    kinds = {source: recognise(source) for source in sources}
    local = [source for source, kind in kinds.items() if not kind.is_remote]
    for source in local:
        needs.local(Path(source.removeprefix(RAW_PREFIX)))
    needs.readable += files_named(local, options)
    for source, kind in kinds.items():
        match kind.name:
            case "https":
                needs.web(source)
            case "nbd":
                needs.nbd(source)
            case "san":
                needs.san(source, options.luns)
            case "vm":
                needs.machine(options, state_dir)
    if needs.ports:
        needs.readable += network_files()
    return Policy(
        readable=tuple(dict.fromkeys(needs.readable)),
        writable=(Path("/dev/null"), *needs.writable, *writable),
        devices=tuple(dict.fromkeys(needs.devices)),
        ports=frozenset(needs.ports | ({DNS_PORT} if needs.names else set())),
        asks_for_names=needs.names,
        unix_sockets=needs.unix_sockets,
        starts_programs=needs.programs,
        capabilities=READING,
    )


@dataclass
class _Needs:
    """A policy that is being put together."""

    readable: list[Path]
    writable: list[Path] = field(default_factory=list)
    devices: list[Path] = field(default_factory=list)
    ports: set[int] = field(default_factory=set)
    names: bool = False
    unix_sockets: bool = False
    programs: bool = False

    def local(self, path: Path) -> None:
        """Add a file, a folder or a block device."""
        with suppress(OSError):
            is_device = stat.S_ISBLK(path.stat().st_mode)
            (self.devices if is_device else self.readable).append(path)

    def server(self, host: str, port: int) -> None:
        """Add a server."""
        from ipaddress import ip_address  # loaded when it is used: local sources need no address

        self.ports.add(port)
        try:
            ip_address(host.partition("%")[0])
        except ValueError:
            self.names = True

    def web(self, url: str) -> None:
        """Add an https:// source; it may be redirected to the usual port."""
        from urllib.parse import urlsplit

        with suppress(ValueError):  # which is said when it is opened
            parts = urlsplit(url)
            self.server(parts.hostname or "", parts.port or HTTPS_PORT)
            self.ports.add(HTTPS_PORT)

    def nbd(self, uri: str) -> None:
        """Add an NBD server."""
        from vmount.backends.nbd.uri import NbdUriError, parse_nbd_uri

        with suppress(NbdUriError):
            parsed = parse_nbd_uri(uri)
            if parsed.tls_certificates is not None:
                self.readable.append(parsed.tls_certificates)
            if parsed.tls:
                self.readable += network_files()
            if parsed.host is None:
                self.unix_sockets = True
            else:
                self.server(parsed.host, parsed.port)

    def san(self, source: str, choice: LunChoice) -> None:
        """Add a source on LUNs."""
        from vmount.sources.san_address import parse_san

        with suppress(VmountError):
            self.luns(replace(choice, given=parse_san(source).luns or choice.given))

    def luns(self, choice: LunChoice) -> None:
        """Add the devices that are looked at as LUNs. What they are called is asked, nothing is read."""
        self.readable += [_SYSFS, Path("/dev/disk"), Path("/dev/mapper")]
        with suppress(VmountError, OSError):
            for device in choice.candidates():
                self.devices += device.paths

    def machine(self, options: OpenOptions, state_dir: Path) -> None:
        """Add a machine in vCenter or on a host: its server, the records, the wanted transports."""
        connection = options.connection
        if connection is None:
            return
        self.connection(connection)
        with suppress(VmountError):  # which is said when it is used
            StateDir(state_dir).prepare()
        self.writable.append(state_dir)
        self.readable += options.datastores.values()
        wanted = options.transports
        if not wanted or "https" in wanted:
            self.ports.add(HTTPS_PORT)  # of the hosts that a datacenter's files are on
        if not wanted or "san" in wanted:
            self.luns(options.luns)
        if not wanted or "hotadd" in wanted:
            self.hot_add(options.proxy_vm)
        if options.programs.keys() & set(wanted) or (not wanted or {"nbd", "nbdssl"} & set(wanted)):
            self.programs = bool(options.programs.keys() & set(wanted)) or _has_vddk()

    def connection(self, settings: ConnectionSettings) -> None:
        """Add the server of machines."""
        self.server(settings.host, settings.port)
        if settings.ca_file is not None:
            self.readable.append(settings.ca_file)

    def hot_add(self, proxy_vm: str) -> None:
        """Add what attaching disks to this machine takes; nothing where it cannot be done."""
        from vmount.transports.hotadd import why_no_proxy

        self.readable.append(_SYSFS)
        if why_no_proxy() and not proxy_vm:
            return
        self.devices.append(_DEVICES)
        with suppress(OSError):
            _MARKS.mkdir(exist_ok=True)
        self.writable.append(_MARKS)


def _has_vddk() -> bool:
    from vmount.backends.base import BackendError
    from vmount.transports.vddk import find_library

    try:
        find_library()
    except BackendError:
        return False
    return shutil.which("nbdkit") is not None
