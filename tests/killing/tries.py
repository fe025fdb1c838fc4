"""One try: a command is started, gets a signal, must end, and `vmount cleanup` must leave nothing."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from tests.killing.commands import COMMANDS, MARK, ROOT, Place, Site
from vmount.mounting.mountinfo import vmount_mounts

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
LIMIT = 2.0
"""Seconds in which a command has ended."""
AFTERWARDS = 10.0
"""Seconds for what a killed command has started to end by itself."""
SLEEPING = 3.0
"""Seconds in which a process may be seen in D state, which reading a disk is too."""
LONGEST, EARLY = 4.0, 0.8
"""Seconds into a command up to which a signal comes, and up to which every other one does: processes are
started then."""


class Way(StrEnum):
    """Whom the signal goes to."""

    ALONE = "alone"
    TERMINAL = "terminal"
    """All of a terminal's foreground group: Ctrl-C typed, the terminal closed."""


@dataclass
class Result:
    """What became of a try."""

    command: str
    way: Way
    number: signal.Signals
    moment: float
    seconds: float = 0.0
    """From the signal to the end."""
    code: int = 0
    problems: list[str] = field(default_factory=list)


def moments(site: Site, name: str, folder: Path, count: int, random: Random) -> list[float]:
    """Return random moments of a command's life, which is measured first, in seconds."""
    place = Place(site, folder / f"{name}-undisturbed".replace(" ", "-"))
    command = COMMANDS[name]
    command.prepare(place)
    began = time.monotonic()
    if name == "mount -f":
        life = 1.0  # then it serves
    else:
        place.run(*command.words(place))
        life = time.monotonic() - began
    tidy(place)
    ends = (min(life * 1.1, LONGEST), min(life, EARLY))
    return [random.uniform(0.0, ends[turn % 2]) for turn in range(count)]


def attempt(
    site: Site,
    name: str,
    way: Way,
    number: signal.Signals,
    moment: float,
    folder: Path,
    limit: float,
) -> Result:
    """Make a try. `limit`: seconds in which the command must end."""
    place = Place(site, folder)
    COMMANDS[name].prepare(place)
    result = Result(name, way, number, moment)
    master, slave = os.openpty()
    output = b""
    try:
        process = subprocess.Popen(
            place.command(*COMMANDS[name].words(place)),
            env=place.environment(),
            cwd=ROOT,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=lambda: become_a_job(slave),
        )
        os.close(slave)
        output += drained(process, master, moment)
        began = time.monotonic()
        if process.poll() is None:
            master = send(process, master, way, number)
        output += drained(process, master, limit * 5)
        result.seconds = time.monotonic() - began
        if process.poll() is None:
            result.problems.append(f"runs on after {limit * 5:.0f} s")
            process.kill()
        elif result.seconds > limit:
            result.problems.append(f"took {result.seconds:.1f} s")
        result.code = process.wait(AFTERWARDS)
    finally:
        with suppress(OSError):
            os.close(master)
    check_ending(result, output.decode("utf-8", "replace"))
    result.problems += left_behind(place)
    return result


def become_a_job(slave: int) -> None:
    """Have a terminal of one's own, and take signals that whoever runs the tries may ignore (nohup does)."""
    os.login_tty(slave)
    for number in SIGNALS[:-1]:
        signal.signal(number, signal.SIG_DFL)


def send(process: subprocess.Popen[bytes], master: int, way: Way, number: signal.Signals) -> int:
    """Send the signal as a user or a system does; return the terminal, -1 if that is closed now."""
    if way is Way.ALONE:
        process.send_signal(number)
    elif number is signal.SIGINT:
        os.write(master, b"\x03")
    elif number is signal.SIGHUP:
        os.close(master)
        return -1
    else:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
    return master


def drained(process: subprocess.Popen[bytes], master: int, seconds: float) -> bytes:
    """Take what a command writes until it ends or the time is over; return it."""
    output = b""
    until = time.monotonic() + seconds
    ending = os.pidfd_open(process.pid) if process.poll() is None else -1
    try:
        while process.poll() is None and (left := until - time.monotonic()) > 0:
            watched = [ending] if master < 0 else [ending, master]
            readable, _, _ = select.select(watched, [], [], left)
            if master in readable:
                with suppress(OSError):  # nobody has it open any more
                    output += os.read(master, 1 << 16)
    finally:
        if ending >= 0:
            os.close(ending)
    return output[-10_000:]


def check_ending(result: Result, output: str) -> None:
    """Note what is wrong with how a command ended: with its own result, or for the signal."""
    is_early = "/vmount/cli.py" not in output and (not output or "KeyboardInterrupt" in output)
    if is_early and (result.code in {1, -signal.SIGINT} or "KeyboardInterrupt" in output):
        return  # Python itself was starting, and had not come to the program; it may even go on
    allowed = {0, 3, -result.number, 128 + result.number}
    if " found" in output:
        allowed.add(1)  # a scan that had come to its end, with what it has found
    if result.number is signal.SIGHUP and result.way is Way.TERMINAL:
        allowed.add(120)  # it had come to its end, and Python could not write the rest
    if result.code not in allowed:
        result.problems.append(f"exit code {result.code}: {output.strip()[-200:]!r}")
    if "Traceback" in output:
        result.problems.append(f"traceback: {output.strip()[-300:]!r}")


def left_behind(place: Place) -> list[str]:
    """Clean up as a user does, and return what is left."""
    problems = stuck(place.mark)
    if str(place.mountpoint) in mounts_of(place) and is_served(place):
        done = place.run("umount", place.mountpoint)
        if done.returncode:
            problems.append(f"umount: {done.stderr.strip()}")
    if not wait_for_end(place.mark) and not has_journal(place):
        problems.append(f"processes: {marked(place.mark)}")
    if has_journal(place) or mounts_of(place) or any(place.temporary.glob("vmount*")):
        done = place.run("cleanup")
        if done.returncode:
            problems.append(f"cleanup: {done.stdout.strip()} {done.stderr.strip()}")
    if place.state.exists() and any(place.state.iterdir()):
        problems.append(f"state: {[path.name for path in place.state.iterdir()]}")
    if mounts_of(place):
        problems.append(f"mounts: {mounts_of(place)}")
    if found := [path.name for path in place.temporary.glob("vmount*")]:
        problems.append(f"temporary: {found}")
    if not wait_for_end(place.mark):
        problems.append(f"processes: {marked(place.mark)}")
    tidy(place)
    return problems


def has_journal(place: Place) -> bool:
    return any(place.state.glob("*.journal"))


def is_served(place: Place) -> bool:
    """Say whether a mount is healthy, so that it is for `umount` and not for `cleanup`."""
    return "process  " in place.run("status").stdout


def mounts_of(place: Place) -> list[str]:
    found = [mount.mountpoint for mount in vmount_mounts()]
    return [path for path in found if Path(path).is_relative_to(place.folder)]


def marked(mark: str) -> list[tuple[int, str, str]]:
    """Return number, state and command line of the processes of a try."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdecimal() and f"{MARK}={mark}".encode() in environ(folder):
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:80]
                if state not in "ZX":
                    found.append((int(folder.name), state, words))
    return found


def environ(folder: Path) -> list[bytes]:
    return (folder / "environ").read_bytes().split(b"\0")


def stuck(mark: str) -> list[str]:
    """Return what stays in D state."""
    for seen in repeated(SLEEPING):
        sleeping = [process for process in marked(mark) if process[1] == "D"]
        if not sleeping:
            return []
        if seen:
            return [f"in D state: {sleeping}"]
    return []


def wait_for_end(mark: str) -> bool:
    return any(not marked(mark) for _ in repeated(AFTERWARDS))


def repeated(seconds: float) -> Iterator[bool]:
    """Yield now and again, True the last time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield False
        time.sleep(0.05)
    yield True


def tidy(place: Place) -> None:
    """Leave no mount and no process, whatever became of the try, so that the next is not misjudged."""
    for pid, _, _ in marked(place.mark):
        if pid != os.getpid():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for path in mounts_of(place):
        subprocess.run(["fusermount3", "-u", "-z", "--", path], check=False, stderr=sys.stderr)
    if not mounts_of(place):
        shutil.rmtree(place.folder, ignore_errors=True)
