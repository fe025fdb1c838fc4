"""`-o`: the options of mount(8) and fstab(5), so that `mount -t fuse.vmount` and a line of fstab work.

An option of the command is named as it is there, with or without its dashes as underscores:
`allow_other`, `owner=guest`, `cache-size=1G`. `source=FILE` names one more disk. What mount(8) itself
deals with, or what holds for a mount of vmount anyway, is passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.errors import UsageError

if TYPE_CHECKING:
    import argparse

ANYWAY = frozenset(
    {
        *("defaults", "ro", "nodev", "nosuid", "dev", "suid", "exec"),
        *("async", "sync", "atime", "noatime", "relatime", "norelatime", "diratime", "nodiratime"),
        *("auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev"),
        *("nonempty", "fsname", "subtype", "comment"),
    }
)
"""Options that mount(8) handles, or that change nothing here: the mount is always ro, nodev and nosuid."""
WRITABLE = "rw"
BY_MOUNT_FUSE = ("dev", "suid")
"""What mount.fuse3(8) adds to rw, the default of mount(8): then nobody has asked for it."""
PREFIXES_ANYWAY = ("x-", "X-", "comment=", "fsname=", "subtype=")
FLAGS = frozenset(
    {
        *("allow-other", "noexec", "force", "foreground", "insecure", "streams", "ignore-case"),
        *("quiesce", "try-quiesce", "keep-snapshot"),
    }
)
"""Options of the command that take no value."""


def take_mount_options(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Let what -o says stand in the arguments as if it had been given there. Raises UsageError."""
    words, sources = split_options(",".join(arguments.mount_options))
    if words:
        places = [*arguments.sources, arguments.mountpoint]
        _, unknown = parser.parse_known_args([*words, "--", *places], arguments)
        if unknown:
            raise UsageError(
                f"-o {unknown[0].removeprefix('--')}: unknown option",
                remedy="see vmount mount --help",
            )
    arguments.sources = [*arguments.sources, *sources]


def without_default(text: str) -> str:
    """Return options without rw, which mount(8) gives to its helpers where nobody has asked for it."""
    return ",".join(option.replace(",", "\\,") for option in _split(text) if option != WRITABLE)


def split_options(text: str) -> tuple[list[str], list[str]]:
    """Return the words for the command line that options stand for, and further sources.

    A comma that belongs to a value is written as \\,. Raises UsageError for what is no option.
    """
    words: list[str] = []
    sources: list[str] = []
    given = set(_split(text))
    for option in _split(text):
        name, separator, value = option.partition("=")
        dashed = name.replace("_", "-")
        if option == WRITABLE and not given.issuperset(BY_MOUNT_FUSE):
            raise UsageError(
                f"-o {option}: vmount mounts read-only", remedy="use -o ro, or leave it out"
            )
        if dashed in FLAGS and not separator:
            words.append(f"--{dashed}")
        elif (not separator and name in {*ANYWAY, WRITABLE}) or option.startswith(PREFIXES_ANYWAY):
            continue
        elif name == "source" and value:
            sources.append(value)
        elif separator:
            words.append(f"--{dashed}={value}")
        else:
            raise UsageError(
                f"-o {option}: unknown option, or its value is missing",
                remedy="see vmount mount --help",
            )
    return words, sources


def _split(text: str) -> list[str]:
    found, current, escaped = [], "", False
    for char in text:
        if escaped or char not in ",\\":
            current += char
            escaped = False
        elif char == "\\":
            escaped = True
        else:
            found.append(current)
            current = ""
    return [option for option in [*found, current] if option]
