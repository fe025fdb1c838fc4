"""Options of commands that read a machine of a vCenter or host: snapshot and relocation lock."""

from __future__ import annotations

import argparse

from vmount.errors import UsageError
from vmount.vsphere.access_options import AccessOptions, LockMode, Quiesce

LONGEST_WAIT = 7 * 86400.0
"""Seconds to wait for a lock: a week."""


def add_access_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what concerns making a machine ready to be read."""
    group = parser.add_argument_group("virtual machines")
    group.add_argument(
        "--snapshot",
        metavar="WHICH",
        help="read current, new, or a snapshot by its moRef, name or path "
        "(default: new, removed at the end; none if the VM is off)",
    )
    group.add_argument(
        "--quiesce",
        dest="quiesce",
        action="store_const",
        const=Quiesce.REQUIRE,
        default=Quiesce.NO,
        help="quiesce the guest's file systems for the new snapshot, and fail if that is impossible",
    )
    group.add_argument(
        "--try-quiesce",
        dest="quiesce",
        action="store_const",
        const=Quiesce.TRY,
        help="quiesce them if possible",
    )
    group.add_argument(
        "--keep-snapshot", action="store_true", help="do not remove the new snapshot at the end"
    )
    group.add_argument(
        "--lock",
        choices=[mode.value for mode in LockMode],
        default=LockMode.AUTO.value,
        help="prevent vCenter from relocating the VM. auto: if possible (default); "
        "require: fail otherwise; no: never",
    )
    group.add_argument(
        "--lock-wait",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="seconds to wait for the lock of another program",
    )


def access_options(arguments: argparse.Namespace) -> AccessOptions:
    """Return what the arguments say. Raises UsageError for what does not go together."""
    takes_none = arguments.snapshot not in (None, "new")
    for is_given, option in (
        (arguments.quiesce is not Quiesce.NO, "--quiesce"),
        (arguments.keep_snapshot, "--keep-snapshot"),
    ):
        if is_given and takes_none:
            raise UsageError(
                f"{option} is for a new snapshot, not for --snapshot {arguments.snapshot}"
            )
    return AccessOptions(
        snapshot=arguments.snapshot,
        quiesce=arguments.quiesce,
        keep_snapshot=arguments.keep_snapshot,
        lock=LockMode(arguments.lock),
        lock_wait=arguments.lock_wait,
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= LONGEST_WAIT:
        raise argparse.ArgumentTypeError(
            f"invalid number of seconds {text!r} (at most 604800, a week)"
        )
    return value
