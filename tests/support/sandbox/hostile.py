"""vmount with a parser that a disk has taken over: it tries what an attacker would, and tells what went.

    python -m tests.support.sandbox.hostile WORD...       the command
    python -m tests.support.sandbox.hostile --server ...  the process of a mount that a program asked for

The environment says what to try (HOSTILE: the attempts' targets as JSON) and on which descriptor to tell
(HOSTILE_PIPE). The command goes on afterwards as if nothing had been.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from vmount.parsers import detect
from vmount.volumes import find

SYSTEM_CALLS = {
    "mount": 165,
    "unshare": 272,
    "setns": 308,
    "pivot_root": 155,
    "bpf": 321,
    "io_uring_setup": 425,
    "process_vm_readv": 310,
    "open_by_handle_at": 304,
    "init_module": 175,
    "keyctl": 250,
    "userfaultfd": 323,
    "perf_event_open": 298,
}
"""Of x86-64."""
_libc = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH = 16


def attempts(targets: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """Return what is tried, by name."""
    outside = Path(targets["outside"])
    parent = targets["parent"]
    found: dict[str, Callable[[], object]] = {
        "read /etc/shadow": lambda: Path("/etc/shadow").read_bytes(),
        "read /etc/shadow through init": lambda: Path("/proc/1/root/etc/shadow").read_bytes(),
        "read elsewhere": (outside / "secret").read_bytes,
        "list elsewhere": lambda: list(outside.iterdir()),
        "write elsewhere": lambda: (outside / "secret").write_bytes(b"!"),
        "append elsewhere": lambda: os.open(outside / "secret", os.O_WRONLY | os.O_APPEND),
        "make a file": lambda: (outside / "made").touch(),
        "make a folder": lambda: (outside / "made").mkdir(),
        "make a link": lambda: (outside / "made").symlink_to("secret"),
        "make a hard link": lambda: (outside / "made").hardlink_to(outside / "secret"),
        "make a device": lambda: os.mknod(outside / "made", 0o020600, os.makedev(1, 1)),
        "rename": lambda: (outside / "secret").rename(outside / "renamed"),
        "remove": (outside / "secret").unlink,
        "truncate": lambda: os.truncate(outside / "secret", 0),
        "start a program": lambda: subprocess.run(["/bin/true"], check=True),
        "start a program in memory": _memory_program,
        "connect by TCP": lambda: socket.create_connection(("127.0.0.1", targets["port"]), 1),
        "listen by TCP": lambda: socket.create_server(("127.0.0.1", 0)),
        "connect to a socket": lambda: _connect_unix(targets["socket"]),
        "raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
        "packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        "signal": lambda: os.kill(parent, 0),
        "signal by a thread": lambda: signal.pidfd_send_signal(os.pidfd_open(parent), 0),
        "trace": lambda: _call(_libc.ptrace, PTRACE_ATTACH, parent, 0, 0),
        "read memory": lambda: os.open(f"/proc/{parent}/mem", os.O_RDONLY),
        "read an environment": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
        "type on the terminal": lambda: fcntl.ioctl(0, termios.TIOCSTI, b"x"),
        "another thread": _in_thread(lambda: Path("/etc/shadow").read_bytes()),
    }
    if targets["attributes"]:
        found |= {
            "chmod": lambda: (outside / "secret").chmod(0o666),
            "chown": lambda: os.chown(outside / "secret", 1, 1),
            "utime": lambda: os.utime(outside / "secret"),
            "setxattr": lambda: os.setxattr(outside / "secret", "user.x", b"x"),
        }
    for name, number in SYSTEM_CALLS.items():
        found[name] = partial(_call, _libc.syscall, number, 0, 0, 0, 0, 0, 0)
    return found


def _memory_program() -> None:
    descriptor = os.memfd_create("program")
    os.write(descriptor, Path("/bin/true").read_bytes() if os.access("/bin/true", 4) else b"")
    subprocess.run([f"/proc/self/fd/{descriptor}"], pass_fds=[descriptor], check=True)


def _connect_unix(path: str) -> None:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)


def _in_thread(what: Callable[[], object]) -> Callable[[], object]:
    def run() -> None:
        problems: list[OSError] = []

        def target() -> None:
            try:
                what()
            except OSError as error:
                problems.append(error)

        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
        if problems:
            raise problems[0]

    return run


def _call(function: Callable[..., int], *arguments: int) -> None:
    if function(*map(ctypes.c_long, arguments)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def outcome(what: Callable[[], object]) -> str:
    """Return "done", or the name of the errno."""
    try:
        what()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, repr(error))
    return "done"


def attack() -> None:
    """Try everything and tell."""
    tried = attempts(json.loads(os.environ["HOSTILE"]))
    wanted = json.loads(os.environ["HOSTILE"])["only"] or tried
    told = {name: outcome(tried[name]) for name in wanted}
    pipe = int(os.environ["HOSTILE_PIPE"])
    os.write(pipe, json.dumps(told).encode() + b"\n")


def main() -> int:
    """Take a parser over and be the program."""
    genuine = detect.detect
    has_attacked = False

    async def hostile(*arguments: Any, **more: Any) -> Any:
        nonlocal has_attacked
        if not has_attacked:
            has_attacked = True
            attack()
        return await genuine(*arguments, **more)

    # Where it is used: what this process parses first of a volume.
    vars(find)["detect"] = hostile
    if sys.argv[1] == "--server":
        from vmount.mounting.server_process import main as serve

        del sys.argv[1]
        return serve()
    from vmount.cli import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
