"""The serving process: the one place that builds the object graph and opens nurseries."""

from __future__ import annotations

import gc
import logging
import os
import signal
import stat
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyfuse3
import trio

from vmount.disk_set import OpenDiskSet
from vmount.errors import MountError, explain
from vmount.mounting.config import MountConfig, OwnerMode
from vmount.mounting.control import answering, bound
from vmount.mounting.fuse_ops import FuseOps, Owner
from vmount.mounting.mounter import Mounter
from vmount.mounting.mountinfo import find_mount
from vmount.mounting.privileges import give_up
from vmount.mounting.status import Statistics
from vmount.mounting.volume_mounts import VolumeMounts
from vmount.runtime import TrioRuntime, first_of
from vmount.sandbox import confine
from vmount.sandbox.kernel import keep_memory_private
from vmount.sandbox.policy import CAP_DAC_OVERRIDE
from vmount.sources.needs import policy_for
from vmount.state.things import MountPoint
from vmount.tree.builder import build_tree
from vmount.tree.info import as_json, describe
from vmount.tree.walk_ahead import WalkAhead

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping

    from vmount.state import Journal, StateDir

log = logging.getLogger(__name__)

READ_AHEAD = Path("/sys/devices/virtual/bdi")
"""Folder of what the kernel lets be set for each file system: its readahead, and how it writes back."""
READ_AHEAD_KB = 1024
"""Of the mount: at the kernel's own 128 KiB a sequential reader gets a third of the throughput."""


def serve(
    config: MountConfig,
    state: StateDir,
    on_ready: Callable[[], None],
    *,
    lifeline: int | None = None,
) -> None:
    """Mount, serve until unmounted or told to end by SIGTERM or SIGINT, and release everything.

    `on_ready` is called once, when the mount answers. With the end of file on the descriptor `lifeline`
    the mount ends as well. Raises VmountError.
    """
    check_mountpoint(config.mountpoint)
    keep_memory_private()
    with ExitStack() as stack:
        try:
            mounter = Mounter(str(config.mountpoint), _fuse_options(config))
        except OSError as error:
            raise MountError(f"cannot start what mounts: {explain(error)}") from error
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
            f"{path}: {'already mounted' if _answers(path) else 'a mount whose server is gone'}",
            remedy=f"run: vmount umount {path}",
        )
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise MountError(f"{path}: {error.strerror}", remedy="make the directory first") from error
    if not stat.S_ISDIR(mode):
        raise MountError(f"{path}: not a directory")
    if not Path("/dev/fuse").exists():
        raise MountError(
            "/dev/fuse is not there: this kernel or container has no FUSE",
            remedy="vmount ls, cat, cp and info work without it",
        )


def _answers(mountpoint: Path) -> bool:
    """Ask a mount something that the kernel does not know by itself."""
    try:
        os.statvfs(mountpoint)
    except OSError:
        return False
    return True


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
    ending = Ending()
    # A nursery of its own: a signal must not kill what undoes things while all other tasks end.
    async with trio.open_nursery() as nursery:
        await nursery.start(ending.wait_for_signal)
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
            raise MountError(f"{config.mountpoint}: not mounted: told to end before")
        for warning in manager.guest.warnings:
            log.warning("%s", warning)
        try:
            info = as_json(describe(manager)).encode()
            statistics = Statistics(config, manager)
            tree = build_tree(
                manager,
                lambda: info,
                lambda: as_json(statistics.now()).encode(),
                config.raw_mode,
            )
            is_distant = any(disk.remote is not None for disk in manager.disks)
            walker = WalkAhead(tree, nursery) if is_distant else tree
            owner = _owner(config)
            operations = FuseOps(tree, walker, owner)
            # Access lists name the guest's users and groups: they mean something where those are shown.
            operations.enable_acl = (
                config.allow_other and owner.gid is None and owner.permissions is None
            )
            statistics.operations = operations
            mounts = VolumeMounts(manager, tree, operations, config.mountpoint)
            if config.volumes is not None:
                mounts.show_only(config.volumes)
            _relax_collector()
            with _recorded(config, journal):
                async with answering(serving.control, partial(_do, mounts)):
                    if serving.lifeline is not None:
                        nursery.start_soon(_end_with, serving.lifeline)
                    with _mounted(serving.mounter, operations):
                        await nursery.start(give_up, _needed(manager))
                        await _answer_until_unmounted(config, serving.on_ready, ending)
        finally:
            await manager.aclose()
            nursery.cancel_scope.cancel()


def _owner(config: MountConfig) -> Owner:
    uid, gid = config.uid, config.gid
    if config.owner is OwnerMode.ME:
        uid = os.getuid() if uid is None else uid
        gid = os.getgid() if gid is None else gid
    return Owner(uid, gid, None if config.umask is None else 0o777 & ~config.umask)


async def _do(mounts: VolumeMounts, request: Mapping[str, Any]) -> Any:
    """Do what is asked for through the control socket."""
    match request["do"]:
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


async def _end_with(lifeline: int) -> None:
    """End the mount when nobody holds the other end of a pipe any more."""
    while True:
        await trio.lowlevel.wait_readable(lifeline)
        if not os.read(lifeline, 4096):
            log.info("the program that asked for the mount has ended: unmounting")
            pyfuse3.terminate()
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
    """What a signal ends: the opening of the sources, later the mount."""

    def __init__(self) -> None:
        self.opening = trio.CancelScope()
        self.is_told = False
        self.is_serving = False

    async def wait_for_signal(
        self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """End what there is to end when SIGTERM, SIGINT or SIGHUP comes."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                log.info("%s: unmounting", signal.Signals(number).name)
                self.is_told = True
                self.opening.cancel()
                if self.is_serving:
                    pyfuse3.terminate()
                    self.is_serving = False


async def _answer_until_unmounted(
    config: MountConfig, on_ready: Callable[[], None], ending: Ending
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_announce, config.mountpoint, on_ready)
        ending.is_serving = not ending.is_told
        if ending.is_serving:
            await pyfuse3.main()
        ending.is_serving = False
        nursery.cancel_scope.cancel()


async def _announce(mountpoint: Path, on_ready: Callable[[], None]) -> None:
    """Wait until the mount answers, tune it, and say so."""
    status = await trio.to_thread.run_sync(mountpoint.stat)
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    try:
        Path(f"/sys/class/bdi/{device}/read_ahead_kb").write_text(str(READ_AHEAD_KB))
    except OSError as error:
        log.debug("readahead stays as it is: %s", error)
    on_ready()
