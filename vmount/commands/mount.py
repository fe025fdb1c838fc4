"""`vmount SOURCE... MOUNTPOINT`."""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vmount.commands.options import (
    add_owner_argument,
    add_source_arguments,
    add_user_map_argument,
    decide_owner,
    ntfs_users,
    open_options,
)
from vmount.errors import Exit, VmountError
from vmount.interruption import deferred, fork, ignore_from_now, raising
from vmount.logs import leave_terminal
from vmount.mounting.config import MountConfig, OwnerMode
from vmount.mounting.control import answer_of, error_of
from vmount.mounting.fuse_library import require_fuse
from vmount.mounting.mountinfo import resolve
from vmount.mounting.notify import Notifier
from vmount.parsers.detect import FilesystemOptions
from vmount.parsers.ntfs import NtfsOptions
from vmount.sources.opening import absolute
from vmount.sources.registry import forms
from vmount.state import StateDir
from vmount.tree.info import as_json
from vmount.tree.tree import RAW_MODE

LARGEST_NUMBER = (1 << 32) - 2
"""Of a user or group: the kernel's type, whose last value means none."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help=forms())
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="a directory")
    parser.add_argument("-f", "--foreground", action="store_true", help="stay in the foreground")
    parser.add_argument(
        "--allow-other", action="store_true", help="let other users access the mount"
    )
    parser.add_argument(
        "--noexec",
        action="store_true",
        help="do not run programs from the mount",
    )
    add_owner_argument(parser)
    for option, what in (("--uid", "user"), ("--gid", "group")):
        parser.add_argument(
            option,
            type=_number,
            metavar="N",
            help=f"number of the {what} that owns all files",
        )
    parser.add_argument(
        "--umask",
        type=_umask,
        metavar="MASK",
        help="permissions of all files: 0777 without these bits (022, 077)",
    )
    add_user_map_argument(parser)
    parser.add_argument(
        "--raw-mode",
        type=_raw_mode,
        default=RAW_MODE,
        metavar="MODE",
        help="permissions of the block files, such as 0440 (default: 0400); a user who can read a block file can read every file on it",
    )
    parser.add_argument(
        "--streams",
        action="store_true",
        help="also show alternate streams of NTFS as files: report.txt:Zone.Identifier",
    )
    parser.add_argument(
        "--ignore-case",
        action="store_true",
        help="ignore case of names on NTFS, as Windows does",
    )
    parser.add_argument(
        "--volumes",
        type=lambda text: tuple(filter(None, text.split(","))),
        metavar="NAME,...",
        help="show only these volumes (vmount volumes can add others later)",
    )
    parser.add_argument(
        "-o",
        action="append",
        default=[],
        dest="mount_options",
        metavar="OPTION,...",
        help="as for mount(8) and in fstab: allow_other, owner=guest, streams, cache-size=1G, source=FILE",
    )
    add_source_arguments(parser)
    parser.add_argument("--json", action="store_true", help="report the mount as JSON")


def _number(text: str) -> int:
    if not re.fullmatch(r"\d{1,10}", text) or int(text) > LARGEST_NUMBER:
        raise argparse.ArgumentTypeError(f"invalid number {text!r} (example: 1000)")
    return int(text)


def _umask(text: str) -> int:
    if not re.fullmatch(r"[0-7]{1,4}", text) or int(text, 8) > 0o777:
        raise argparse.ArgumentTypeError(f"invalid umask {text!r} (examples: 022, 077)")
    return int(text, 8)


def run(arguments: argparse.Namespace) -> int:
    """Mount."""
    if arguments.owner is None and (arguments.uid, arguments.gid) != (None, None):
        arguments.owner = OwnerMode.ME
    decide_owner(
        arguments, "files belong to you; use --owner guest to show the owners of the guest"
    )
    mountpoint = Path(resolve(arguments.mountpoint))
    options = open_options(arguments, *arguments.sources)
    ntfs = NtfsOptions(
        ignore_case=arguments.ignore_case,
        streams=arguments.streams,
        users=ntfs_users(arguments),
    )
    config = MountConfig(
        sources=tuple(map(absolute, arguments.sources)),
        mountpoint=mountpoint,
        options=replace(options, filesystems=FilesystemOptions(ntfs)),
        owner=OwnerMode(arguments.owner),
        uid=arguments.uid,
        gid=arguments.gid,
        umask=arguments.umask,
        allow_other=arguments.allow_other,
        noexec=arguments.noexec,
        raw_mode=arguments.raw_mode,
        foreground=arguments.foreground,
        confined=not arguments.no_sandbox
        and (arguments.is_own_process or not arguments.foreground),
        volumes=arguments.volumes,
    )
    require_fuse()
    from vmount.mounting.serve import check_mountpoint, serve

    state = StateDir(arguments.state_dir)
    check_mountpoint(mountpoint)
    if config.foreground:
        notifier = Notifier()

        def on_ready() -> None:
            notifier.ready()
            _say(arguments.json, mountpoint, os.getpid())

        serve(config, state, on_ready)
        return Exit.OK
    with deferred():  # a signal between the fork and the child's own deferring would be lost
        answer = _in_background(config, state, arguments.inherited)
    if "error" in answer:
        raise error_of(answer)
    if arguments.json:
        _say(True, mountpoint, answer["pid"])
    return Exit.OK


def _say(is_wanted: bool, mountpoint: Path, pid: int) -> None:
    if is_wanted:
        print(as_json({"mountpoint": str(mountpoint), "pid": pid}, indent=None), end="", flush=True)


def _in_background(config: MountConfig, state: StateDir, inherited: set[int]) -> dict[str, Any]:
    """Serve in a child process; return what it says when it is ready or has failed.

    It lets go of the `inherited` descriptors then: whoever waits for the end of a pipe is not to wait for
    the end of the mount. Once it has said that it is ready, a signal comes too late; before that the mount
    is undone. Raises Interrupted.
    """
    receiving, sending = os.pipe()
    pid = fork()
    if pid == 0:
        os.close(receiving)
        code: int = Exit.FAILED
        try:
            code = _serve_as_child(config, state, sending, inherited)
        finally:
            os._exit(code)
    os.close(sending)
    with open(receiving, "rb") as pipe:  # noqa: PTH123 (a descriptor)
        try:
            with raising():
                select.select([pipe], [], [])
        except KeyboardInterrupt:
            # It undoes its changes to a VM first.
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
            raise
        text = pipe.read()
    if not text:
        _, status = os.waitpid(pid, 0)
        ending = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "no word"
        return {
            "error": f"the serving process ended with {ending}; run with --foreground to see why",
            "code": Exit.FAILED,
        }
    answer: dict[str, Any] = json.loads(text)
    if "error" not in answer:
        ignore_from_now()
    return answer


def _serve_as_child(config: MountConfig, state: StateDir, sending: int, inherited: set[int]) -> int:
    def send(answer: dict[str, Any]) -> None:
        os.write(sending, json.dumps(answer).encode())
        os.close(sending)

    def on_ready() -> None:
        leave_terminal()
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        os.close(null)
        for descriptor in inherited:
            with suppress(OSError):
                os.close(descriptor)
        send({"pid": os.getpid()})

    # It imports pyfuse3.
    from vmount.mounting.serve import serve

    os.setsid()
    try:
        serve(config, state, on_ready)
    except VmountError as error:
        sys.stderr.flush()
        send(answer_of(error))
        return error.exit_code
    except BrokenPipeError:
        return Exit.FAILED  # who asked for the mount was killed: it is undone
    return Exit.OK


def _raw_mode(text: str) -> int:
    """Read a mode for argparse: octal, of rights to read."""
    mode = int(text, 8) if re.fullmatch(r"0?[0-7]{1,3}", text) else -1
    if mode & ~0o444:
        raise argparse.ArgumentTypeError(
            f"invalid mode {text!r} (read permissions only, such as 0440)"
        )
    return mode
