"""The serving process: FUSE, signals and the sandbox around what `assemble` makes."""

from __future__ import annotations

import errno
import gc
import logging
import os
import stat
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyfuse3
import trio

from vmount.disk_set import OpenDiskSet
from vmount.errors import MountError, Remedy, explain
from vmount.interruption import announced, catching, deferred, taken
from vmount.mounting.apart import apart
from vmount.mounting.assemble import assemble
from vmount.mounting.config import MountConfig, OwnerMode
from vmount.mounting.control import answering, bound
from vmount.mounting.fuse_ops import FuseOps, Owner
from vmount.mounting.mounter import Mounter
from vmount.mounting.mountinfo import find_mount
from vmount.mounting.privileges import give_up
from vmount.runtime import TrioRuntime, first_of
from vmount.sandbox import confine
from vmount.sandbox.kernel import keep_memory_private
from vmount.sandbox.policy import CAP_DAC_OVERRIDE
from vmount.sources.needs import policy_for
from vmount.state.undo_records import MountPoint

if TYPE_CHECKING:
    import signal
    import socket
    from collections.abc import Callable, Iterator, Mapping

    from vmount.mounting.status import Statistics
    from vmount.mounting.volume_mounts import VolumeMounts
    from vmount.state import Journal, StateDir

log = logging.getLogger(__name__)

READ_AHEAD = Path("/sys/devices/virtual/bdi")
"""Folder of what the kernel lets be set for each file system: its readahead, and how it writes back."""
READ_AHEAD_KB = 1024
"""Of the mount: at the kernel's own 128 KiB a sequential reader gets a third of the throughput."""
LAST_REQUESTS = 0.5
"""Seconds for requests that are being answered when the mount is told to end."""


def serve(
    config: MountConfig,
    state: StateDir,
    on_ready: Callable[[], None],
    *,
    lifeline: int | None = None,
) -> None:
    """Mount, serve until unmounted or told to end by SIGTERM, SIGINT or SIGHUP, and release everything.

    `on_ready` is called once, when the mount answers; what it raises ends the mount. With the end of file
    on the descriptor `lifeline` the mount ends as well. Raises VmountError, and Interrupted if a signal
    came before the mount was ready.
    """
    with catching(), deferred():
        _serve_here(config, state, on_ready, lifeline)
        taken()  # the mount was served, and a signal has ended it as it should


def _serve_here(
    config: MountConfig, state: StateDir, on_ready: Callable[[], None], lifeline: int | None
) -> None:
    check_mountpoint(config.mountpoint)
    keep_memory_private()
    with ExitStack() as stack:
        try:
            mounter = Mounter(str(config.mountpoint), _fuse_options(config))
        except OSError as error:
            raise MountError(f"cannot start the mount process: {explain(error)}") from error
        stack.callback(mounter.close)
        journal = stack.enter_context(state.journal())
        journal.create()
        control = stack.enter_context(bound(journal.socket))
        if config.confined:
            _confine(config, state)
        try:
            trio.run(_serve, Serving(config, mounter, journal, control, on_ready, lifeline))
        except BaseExceptionGroup as group:
            raise first_of(group) from None


def _confine(config: MountConfig, state: StateDir) -> None:
    """Give up what reading the sources and serving does not need. Raises VmountError."""
    policy = policy_for(config.sources, config.options, state.path, writable=[READ_AHEAD])
    confine(replace(policy, removable=(state.path,)))


def check_mountpoint(path: Path) -> None:
    """Raise MountError unless something can be mounted at `path`."""
    if find_mount(str(path)) is not None:
        raise MountError(
            f"{path}: {'a mount whose process has ended' if _is_dead(path) else 'already mounted'}",
            remedy=Remedy(f"run: vmount umount {path}", "unmount it first"),
        )
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise MountError(
            f"{path}: {error.strerror}", remedy="create the directory first"
        ) from error
    if not stat.S_ISDIR(mode):
        raise MountError(f"{path}: not a directory")
    if not Path("/dev/fuse").exists():
        raise MountError(
            "/dev/fuse does not exist: this kernel or container has no FUSE",
            remedy=Remedy("vmount ls, cat, cp and info work without it"),
        )


def _is_dead(mountpoint: Path) -> bool:
    """Say whether the kernel has lost the server of a mount."""

    def ask_server() -> bytes:
        os.statvfs(mountpoint)
        return b""

    try:
        apart(ask_server)
    except OSError as error:
        return error.errno in {errno.ENOTCONN, errno.ECONNABORTED}
    return False


@dataclass(frozen=True)
class Serving:
    """What was made ready for serving before this process gave up its rights."""

    config: MountConfig
    mounter: Mounter
    journal: Journal
    control: socket.socket
    on_ready: Callable[[], None]
    lifeline: int | None


async def _serve(serving: Serving) -> None:
    ending = Ending(serving.config)
    with ending.told_by_signals():
        async with trio.open_nursery() as nursery:
            # It begins before anything else and outlives it: a lifeline must not be lost on the way.
            if serving.lifeline is not None:
                nursery.start_soon(_end_with, serving.lifeline, ending)
            try:
                await _serve_recorded(serving, ending)
            finally:
                nursery.cancel_scope.cancel()


async def _serve_recorded(serving: Serving, ending: Ending) -> None:
    config, journal = serving.config, serving.journal
    async with trio.open_nursery() as nursery:
        with ending.opening:
            manager = await OpenDiskSet.open(
                config.sources, TrioRuntime(nursery), config.options, journal
            )
        if ending.opening.cancelled_caught:
            raise ending.not_mounted()
        try:
            assembled = assemble(
                manager,
                nursery,
                top=str(config.mountpoint),
                sources=config.shown_sources,
                raw_mode=config.raw_mode,
            )
            owner = _owner(config)
            operations = FuseOps(assembled.tree, assembled.walker, owner)
            # Access lists name the guest's users and groups: they mean something where those are shown.
            operations.enable_acl = (
                config.allow_other and owner.gid is None and owner.permissions is None
            )
            mounts = assembled.connect(operations, config.volumes)
            _relax_collector()
            await ending.check()
            with _recorded(config, journal):
                async with answering(serving.control, partial(_do, mounts, assembled.statistics)):
                    with _mounted(serving.mounter, operations):
                        await nursery.start(give_up, _needed(manager))
                        await ending.check()
                        await _answer_until_unmounted(config, operations, serving.on_ready, ending)
        finally:
            await manager.aclose()
            nursery.cancel_scope.cancel()


def _owner(config: MountConfig) -> Owner:
    uid, gid = config.uid, config.gid
    if config.owner is OwnerMode.ME:
        uid = os.getuid() if uid is None else uid
        gid = os.getgid() if gid is None else gid
    return Owner(uid, gid, None if config.umask is None else 0o777 & ~config.umask)


async def _do(mounts: VolumeMounts, statistics: Statistics, request: Mapping[str, Any]) -> Any:
    """Do what is asked for through the control socket."""
    match request["do"]:
        case "status":
            return statistics.now()
        case "volumes":
            return [asdict(state) for state in mounts.states()]
        case "mount":
            return asdict(await mounts.mount(str(request["volume"])))
        case "dismount":
            force = bool(request.get("force"))
            holders = [(int(pid), str(name)) for pid, name in request["holders"]]
            name = str(request["volume"])
            return asdict(await mounts.dismount(name, force=force, holders=holders))
    raise KeyError(request["do"])


async def _end_with(lifeline: int, ending: Ending) -> None:
    """End the mount when nobody holds the other end of a pipe any more."""
    while True:
        await trio.lowlevel.wait_readable(lifeline)
        if not os.read(lifeline, 4096):
            ending.tell("the program that requested the mount has ended")
            return


@contextmanager
def _recorded(config: MountConfig, journal: Journal) -> Iterator[None]:
    entry = journal.begin(MountPoint(str(config.mountpoint), config.shown_sources))
    try:
        yield
    finally:
        entry.end()


@contextmanager
def _mounted(mounter: Mounter, operations: FuseOps) -> Iterator[None]:
    descriptor = mounter.mount()
    try:
        pyfuse3.init(operations, f"/dev/fd/{descriptor}", set())
    except BaseException:
        os.close(descriptor)
        raise
    try:
        yield
    finally:
        # In this order: the kernel asks us nothing any more while it unmounts.
        pyfuse3.close(unmount=False)
        mounter.close()


def _fuse_options(config: MountConfig) -> set[str]:
    """Return the options of the kernel's mount."""
    options = {
        f"fsname={_option(','.join(config.shown_sources))}",
        "subtype=vmount",
        "ro",
        "nosuid",
        "nodev",
    }
    if config.noexec:
        options.add("noexec")
    if config.allow_other:
        # Others are in: the kernel must hold them to the permissions shown.
        options |= {"allow_other", "default_permissions"}
    return options


def _needed(manager: OpenDiskSet) -> set[int]:
    """Return the capabilities that serving needs: files here are open and stay so; what is distant is
    connected to again, through sockets and devices that may belong to another user."""
    is_distant = any(disk.remote is not None for disk in manager.disks)
    return {CAP_DAC_OVERRIDE} if is_distant or manager.machines else set()


def _option(text: str) -> str:
    """Quote a mount option's value: a comma would end it."""
    return text.replace("\\", "\\\\").replace(",", "\\,")


def _relax_collector() -> None:
    """Collect garbage rarely: what a request makes is freed by reference counts.

    What was loaded at the start stays; going over it again and again took 7 % of the time of reading
    20,000 files.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


class Ending:
    """What ends a mount: a signal or the end of a lifeline. First the opening of the sources, later the mount."""

    def __init__(self, config: MountConfig) -> None:
        self.opening = trio.CancelScope()
        self.told = trio.Event()
        self._mountpoint = config.mountpoint

    @contextmanager
    def told_by_signals(self) -> Iterator[None]:
        """Tell of signals, which are deferred, until the end of the context."""
        token = trio.lowlevel.current_trio_token()

        def pass_on(number: signal.Signals) -> None:
            token.run_sync_soon(self.tell, number.name)

        with announced(pass_on):
            yield

    def tell(self, reason: str) -> None:
        """End what there is to end."""
        log.info("%s: unmounting", reason)
        self.told.set()
        self.opening.cancel()

    async def check(self) -> None:
        """Raise if it was told: opening local files does not let the event loop look. Raises MountError."""
        await trio.lowlevel.checkpoint()
        if self.told.is_set():
            raise self.not_mounted()

    def not_mounted(self) -> MountError:
        """Return what to raise when the end came before the mount was ready. A signal is raised after it."""
        return MountError(f"{self._mountpoint}: not mounted: terminated before")


async def _answer_until_unmounted(
    config: MountConfig, operations: FuseOps, on_ready: Callable[[], None], ending: Ending
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_announce, config.mountpoint, operations, on_ready)
        nursery.start_soon(_end_serving, ending, nursery.cancel_scope)
        await pyfuse3.main()
        nursery.cancel_scope.cancel()
    if not operations.started.is_set():
        raise ending.not_mounted()


async def _end_serving(ending: Ending, serving: trio.CancelScope) -> None:
    """Take no more requests when told to end, and give up those that wait for a server."""
    await ending.told.wait()
    pyfuse3.terminate()
    await trio.sleep(LAST_REQUESTS)
    serving.cancel()


async def _announce(mountpoint: Path, operations: FuseOps, on_ready: Callable[[], None]) -> None:
    """Say that the mount answers, once the kernel has been answered, and tune it.

    Nothing here looks at the mount point itself: that would wait for this very process.
    """
    await operations.started.wait()
    mount = find_mount(str(mountpoint))
    if mount is not None:
        try:
            Path(f"/sys/class/bdi/{mount.device}/read_ahead_kb").write_text(str(READ_AHEAD_KB))
        except OSError as error:
            log.debug("readahead is unchanged: %s", error)
    on_ready()
