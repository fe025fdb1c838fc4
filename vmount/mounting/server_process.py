"""A private mount: a process that serves it until this process ends it.

pyfuse3 holds one session a process, so a program that mounts starts another: `python -m vmount.mounting.server_process`.
What to mount goes to it through a pipe and not through its arguments, which everybody can see; the pipe
stays open, and when it closes, however this program ends, the mount goes.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vmount
from vmount.errors import Exit, MountError, VmountError
from vmount.interruption import exit_code_of
from vmount.logs import configure
from vmount.mounting.control import answer_of, ask, error_of
from vmount.mounting.mountinfo import find_mount
from vmount.mounting.serve import serve
from vmount.mounting.unmount import dismount, fusermount
from vmount.sandbox.kernel import die_with_parent
from vmount.state import MountRecord, StateDir
from vmount.state.undo_records import MountPoint
from vmount.vsphere.passwords import Password, known
from vmount.vsphere.secret import Secret

if TYPE_CHECKING:
    from vmount.mounting.config import MountConfig

SOON = 1.5
"""Seconds for a process to end that has nothing to undo but its mount, once it was told to."""
PATIENCE = 60.0
"""Seconds for one that has, and has not mounted yet."""


class Server:
    """A process that serves a mount. Close it when done."""

    def __init__(self, config: MountConfig, state_dir: Path) -> None:
        """Start it, and return when the mount answers. Raises VmountError."""
        self.mountpoint = config.mountpoint
        self._state = StateDir(state_dir)
        self._record: MountRecord | None = None
        package = str(Path(vmount.__file__).parent.parent)
        paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
        command = [sys.executable, "-m", "vmount.mounting.server_process"]
        if threading.current_thread() is threading.main_thread():
            # The kernel's signal at the death of a parent is that of a thread: others end sooner.
            command.append(str(os.getpid()))
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,
        )
        try:
            answer = self._begin(config, state_dir)
            if "error" in answer:
                raise error_of(answer)
        except BaseException:
            self.close()
            raise
        self._record = self._state.find(str(self.mountpoint))

    def ask(self, what: str, **values: Any) -> Any:
        """Ask the process for something and return its answer. Raises VmountError."""
        assert self._record is not None
        return ask(self._record.socket, {"do": what, **values})

    def dismount(self, volume: str, *, force: bool) -> dict[str, Any]:
        """Dismount a volume and return how it is then. Raises VmountError."""
        assert self._record is not None
        return dismount(partial(ask, self._record.socket), volume, force=force)

    def close(self) -> None:
        """Unmount and wait for the end of the process. A second call does nothing."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        if not process.stdin.closed:
            process.stdin.close()
        try:
            process.wait(SOON)
        except subprocess.TimeoutExpired:
            self._wait_or_kill()
        process.stdout.close()
        if process.returncode < 0:
            mount = find_mount(str(self.mountpoint))
            if mount is not None:
                fusermount(mount, lazy=True)
            self._state.forget_mount(str(self.mountpoint))

    def _wait_or_kill(self) -> None:
        """Give a process the time to undo what it has done elsewhere; kill one that has done nothing."""
        process = self._process
        record = self._record or self._state.find(str(self.mountpoint))
        patience = PATIENCE if record is None else record.patience
        left = [
            undo_record
            for _, contents in self._state.journals()
            if contents.process is not None and contents.process.pid == process.pid
            for undo_record in contents.undo_records.values()
        ]
        if any(not isinstance(undo_record, MountPoint) for undo_record in left):
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience)
        if process.poll() is None:
            process.kill()
            process.wait()

    def _begin(self, config: MountConfig, state_dir: Path) -> dict[str, Any]:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _Pickler(process.stdin).dump((config, state_dir))
            process.stdin.flush()
        except BrokenPipeError as error:
            raise MountError("the serving process ended immediately") from error
        line = process.stdout.readline()
        if not line:
            raise MountError(f"the serving process ended with code {process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


class _Pickler(pickle.Pickler):
    """Writes what to mount, passwords as well: this pipe is the one way on which they leave a process."""

    def reducer_override(self, undo_record: Any) -> Any:
        """Return how to make a thing again."""
        if isinstance(undo_record, Password):
            return known, (undo_record.origin, undo_record.read())
        if isinstance(undo_record, Secret):
            return Secret, (undo_record.reveal(),)
        return NotImplemented


def main() -> int:
    """Serve what standard input says, until it ends. The argument, if any, is who must be the parent."""
    if sys.argv[1:]:
        die_with_parent(int(sys.argv[1]))
    try:
        # What comes through this pipe was written by the program that started this one.
        config, state_dir = pickle.load(sys.stdin.buffer)  # noqa: S301
    except (EOFError, pickle.UnpicklingError):
        return Exit.FAILED  # it has ended already
    configure("warning", None)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def send(answer: dict[str, Any]) -> None:
        if not answers.closed:
            with answers:
                answers.write(json.dumps(answer).encode() + b"\n")

    # The program that started this one has opened the same disks, and has warned of what is wrong with them.
    for name in ("vmount.disk_set", "vmount.mounting.assemble"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        serve(config, StateDir(state_dir), lambda: send({"pid": os.getpid()}), lifeline=0)
    except VmountError as error:
        with suppress(BrokenPipeError):
            send(answer_of(error))
        return error.exit_code
    except BrokenPipeError:
        return Exit.FAILED
    except KeyboardInterrupt as error:
        return exit_code_of(error)
    return Exit.OK


if __name__ == "__main__":
    sys.exit(main())
