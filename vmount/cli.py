"""The command line: `vmount SOURCE... MOUNTPOINT`, and sub-commands as words before it."""

from __future__ import annotations

import argparse
import atexit
import errno
import gc
import importlib
import io
import logging
import os
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn, Protocol

from vmount import __version__
from vmount.commands.defaults import apply_defaults, options_of
from vmount.commands.mount_options import take_mount_options, without_default
from vmount.commands.streams import STDERR
from vmount.configuration import config_path, read_config_if_any
from vmount.errors import Exit, InternalError, UsageError, VmountError, explain
from vmount.interruption import catching, deferred, exit_code_of
from vmount.logs import LEVELS, configure
from vmount.state import default_state_dir

if TYPE_CHECKING:
    from collections.abc import Sequence


log = logging.getLogger(__name__)


class Command(Protocol):
    """A module of vmount.commands. It is imported when its command is used."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's own arguments."""
        ...

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it and return the exit code. Raises VmountError."""
        ...


class Word(NamedTuple):
    """A sub-command as help shows it."""

    usage: str
    purpose: str


MOUNT = "mount"
WORDS = {
    MOUNT: Word("SOURCE... MOUNTPOINT", "mount the disks of a virtual machine"),
    "umount": Word("MOUNTPOINT...", "unmount, and wait until the sources are released"),
    "volumes": Word("MOUNTPOINT", "show, mount and dismount the volumes of a mount"),
    "status": Word("[MOUNTPOINT]", "show the mounts and their activity"),
    "info": Word("SOURCE...", "show disks and volumes without mounting"),
    "ls": Word("SOURCE [PATH]", "list a directory without mounting"),
    "cat": Word("SOURCE PATH...", "write files to standard output without mounting"),
    "cp": Word("SOURCE PATH... DEST", "copy files out without mounting"),
    "find": Word("SOURCE [PATTERN]", "find files by name, size and date without mounting"),
    "diff": Word("SOURCE_A SOURCE_B [PATH]", "show the differences between two snapshots or disks"),
    "scan": Word("SOURCE [PATH...]", "scan for malware with clamd or another scanner"),
    "vms": Word("[PATTERN]", "list the VMs of a vCenter or ESXi host"),
    "snapshots": Word("VM", "list the snapshots of a VM"),
    "doctor": Word("[VM]", "check what this system supports and what a VM requires"),
    "cleanup": Word("", "remove what a killed vmount left behind"),
    "completion": Word("SHELL", "print a completion script for a shell"),
}

SYNONYMS = {"unmount": "umount", "list": "ls", "copy": "cp"}
"""Words that people try, and the commands that they mean."""
LIKENESS = 0.75
"""How like a command a word must be to be taken for a slip, as difflib measures it."""

EPILOG = """\
A SOURCE is {forms}.
A PATH is as in a mount (volumes/disk0-p1/etc, disk0-p1/etc, root/etc) or as in the guest (C:\\Users\\ann,
/home/ann), with patterns (*.docx); file:stream is an alternate stream of NTFS.

exit codes: 0 done; 1 failed, or a scan found malware; 2 wrong usage; 3 a source cannot be opened, or some
of it could not be read; 4 a problem with the mount point or FUSE; 5 the mount is in use; 6 the scanner failed;
70 a bug in vmount; 130 interrupted (Ctrl-C); 143 terminated (SIGTERM); 129 hung up (SIGHUP)
"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """End with the message and where to read more."""
        command = self.prog if " " in self.prog else f"{self.prog} {MOUNT}"
        STDERR.fail(UsageError(message, remedy=f"see {command} --help"), prog=self.prog)
        self.exit(Exit.USAGE)


def main(arguments: Sequence[str] | None = None, *, own_process: bool = False) -> int:
    """Run the command line and return the exit code.

    Without `arguments`, or if the caller says so, the process is the command's own: it gives up rights.
    """
    with catching():
        try:
            return _run(arguments, own_process=own_process or arguments is None)
        except KeyboardInterrupt as error:
            interrupted = VmountError("interrupted")
            interrupted.exit_code = exit_code_of(error)
            return fail(interrupted)
        except Exception as error:
            # Python's own exit code would be 1, which a scan documents as "malware found".
            log.debug("internal error", exc_info=True)
            return fail(InternalError(error))


def _run(arguments: Sequence[str] | None, *, own_process: bool) -> int:
    _prepare_streams()
    inherited = _descriptors()
    if own_process:
        _collect_seldom()
    words = list(sys.argv[1:] if arguments is None else arguments)
    STDERR.as_json = "--json" in words[: words.index("--") if "--" in words else None]
    if not words:
        print(_overview(), end="", file=sys.stderr)
        return Exit.USAGE
    if words[0] in {"-h", "--help"}:
        print(_overview(), end="")
        return Exit.OK
    if meant := _misspelled(words):
        return fail(
            UsageError(
                f"{words[0]}: unknown command; did you mean {meant}?",
                remedy=f"to mount a VM of that name: vmount mount {words[0]} MOUNTPOINT",
            )
        )
    name = words.pop(0) if words[0] in WORDS else MOUNT
    if name == MOUNT and len(words) == 1 and not words[0].startswith("-"):
        return fail(
            UsageError(
                f"{words[0]}: unknown command, or a SOURCE without a MOUNTPOINT",
                remedy="see vmount --help",
            )
        )
    command = load(name)
    parser = parser_of(name, command)
    try:
        _take_defaults(parser, name)
    except UsageError as error:
        if not {"-h", "--help", "--version"}.intersection(words):
            return fail(error)
    with deferred():  # argparse cannot be interrupted: what it then raises hides the signal
        parsed = parser.parse_intermixed_args(words)
    try:
        if name == MOUNT:
            take_mount_options(parser, parsed)
        parsed.whole_parser = whole_parser
        parsed.is_own_process = own_process
        parsed.inherited = inherited - {getattr(parsed, "password_fd", None)}
        configure(parsed.log_level, parsed.log_file, as_json=STDERR.as_json)
        try:
            return command.run(parsed)
        finally:
            sys.stdout.flush()
    except VmountError as error:
        return fail(error)
    except BrokenPipeError:
        # The reader of our output has ended, and no message can reach it.
        _give_up_output()
        return Exit.FAILED
    except OSError as error:
        _give_up_output()
        is_closed = error.errno == errno.EBADF and error.filename is None
        return fail(VmountError("standard output is closed" if is_closed else explain(error)))


def _misspelled(words: Sequence[str]) -> str | None:
    """Return the command that the first word is like, where it is neither a command nor a file."""
    word = words[0]
    # os.path.exists takes a name that is too long for one that is missing; Path.exists raises OSError.
    if word in WORDS or word.startswith("-") or os.path.exists(word):  # noqa: PTH110
        return None
    if word in SYNONYMS:
        return SYNONYMS[word]
    return next(iter(get_close_matches(word, WORDS, 1, LIKENESS)), None)


def _take_defaults(parser: Parser, name: str) -> None:
    """Take the defaults of options from the configuration file. Raises UsageError."""
    path = config_path(os.environ)
    tables = read_config_if_any(path).get("defaults", {})
    if tables:
        apply_defaults(parser, name, tables, path, WORDS, _all_options)


def _all_options() -> set[str]:
    """Return the long names of all commands' options."""
    return {option for name in WORDS for option in options_of(parser_of(name, load(name)))}


def mount_helper() -> int:
    """Be what mount(8) calls for the type fuse.vmount: SOURCE DIR [-sfnv] [-N NS] [-o OPTIONS] [-t TYPE]."""
    words = sys.argv[1:]
    parser = Parser(prog="mount.fuse.vmount", add_help=False)
    parser.add_argument("places", nargs="*")
    parser.add_argument("-o", action="append", default=[])
    for option in ("-s", "-n", "-v"):
        parser.add_argument(option, action="store_true")
    parser.add_argument("-f", action="store_true", dest="fake")
    for option in ("-N", "-t"):
        parser.add_argument(option)
    parsed = parser.parse_intermixed_args(words)
    if parsed.fake:
        return Exit.OK
    options = [word for text in map(without_default, parsed.o) for word in ("-o", text)]
    return main([MOUNT, *options, "--", *parsed.places], own_process=True)


def fail(error: VmountError) -> int:
    """Print an error as the one line that it is and return the exit code."""
    STDERR.fail(error)
    return error.exit_code


def _prepare_streams() -> None:
    """Open the standard streams that the caller has closed, and write UTF-8 whatever the locale is.

    A disk's file would get the number of a closed stream, and lose it when the server detaches. What is
    written to a closed standard output fails, so that no command ends well whose output is lost.
    """
    while (descriptor := _open_nothing()) <= 2:
        if descriptor == 1:
            os.close(descriptor)
            descriptor = _open_nothing(os.O_RDONLY)  # the lowest free number again
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 (a descriptor)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal may obey a byte that is no UTF-8.
            errors = "backslashreplace" if stream.isatty() else "surrogateescape"
            stream.reconfigure(encoding="utf-8", errors=errors)


def _collect_seldom() -> None:
    """Spare Python most of its looking for cycles: a command makes few, and files by the thousand.

    At its end it would look through everything once more, for nothing: that took 0.1 s.
    """
    gc.set_threshold(10_000, 20, 20)
    atexit.register(gc.freeze)


def _descriptors() -> set[int]:
    """Return the descriptors that the caller has left open, beyond the standard streams."""
    with os.scandir("/proc/self/fd") as entries:
        found = {int(entry.name) for entry in entries}
    return {number for number in found if number > 2 and _is_open(number)}


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _open_nothing(flags: int = os.O_RDWR) -> int:
    try:
        return os.open(os.devnull, flags)
    except OSError:  # a /dev without it, in a bare container
        return os.memfd_create("nothing")


def _give_up_output() -> None:
    """Let go what could not be written: Python would try again at its end."""
    os.dup2(_open_nothing(), 1)


def load(name: str) -> Command:
    """Import a command's module."""
    module: Command = importlib.import_module(f"vmount.commands.{name}")
    return module


def parser_of(name: str, command: Command) -> Parser:
    """Return the argument parser of a command."""
    parser = Parser(
        prog="vmount" if name == MOUNT else f"vmount {name}",
        description=_described(name),
        epilog=_epilog() if name == MOUNT else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _declare(parser, command)
    return parser


def whole_parser() -> argparse.ArgumentParser:
    """Return one parser of all commands: what manual page and completion are made of."""
    parser = argparse.ArgumentParser(
        prog="vmount",
        description="Mount the disks of a VMware virtual machine, read-only.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, word in WORDS.items():
        command = commands.add_parser(name, help=word.purpose, description=_described(name))
        _declare(command, load(name))
    return parser


def _described(name: str) -> str:
    purpose = WORDS[name].purpose
    return f"{purpose[0].upper()}{purpose[1:]}."


def _declare(parser: argparse.ArgumentParser, command: Command) -> None:
    """Declare a command's own arguments and those of all."""
    command.add_arguments(parser)
    common = parser.add_argument_group("common options")
    common.add_argument("--log-level", choices=LEVELS, default="warning", help="default: warning")
    common.add_argument(
        "--log-file", type=Path, metavar="FILE", help="also write log lines to this file"
    )
    common.add_argument(
        "--state-dir",
        type=Path,
        default=default_state_dir(),
        metavar="DIR",
        help="folder of the records of what to undo "
        "(default: /var/lib/vmount, or below $XDG_STATE_HOME)",
    )
    common.add_argument(
        "--no-sandbox",
        action="store_true",
        help="do not confine the processes that read disks",
    )
    common.add_argument("--version", action="version", version=f"vmount {__version__}")


def _epilog() -> str:
    from vmount.sources.registry import forms  # loaded for help alone

    return EPILOG.format(forms=forms())


def _overview() -> str:
    lines = ["Mount the disks of a VMware virtual machine, read-only.", "", "usage:"]
    rows = [
        (f"  vmount {'' if name == MOUNT else name + ' '}{word.usage}".rstrip(), word.purpose)
        for name, word in WORDS.items()
    ]
    width = max(len(usage) for usage, _ in rows) + 2
    lines += [f"{usage:<{width}}{purpose}" for usage, purpose in rows]
    lines += [
        "",
        "For more: vmount COMMAND --help. For the options of a mount: vmount mount --help",
        "",
    ]
    return "\n".join(lines) + _epilog()


if __name__ == "__main__":
    sys.exit(main())
