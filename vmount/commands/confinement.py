"""Confining the process of a command before it reads what an attacker may have written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmount.sandbox import confine
from vmount.sandbox.policy import CAP_SYS_ADMIN
from vmount.sandbox.system import PROCESSES
from vmount.sources.needs import policy_for
from vmount.sources.vm import is_vm

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from vmount.options import OpenOptions


def is_confined(arguments: argparse.Namespace) -> bool:
    """Say whether the command's process gives up rights: it must be the command's own."""
    return bool(arguments.is_own_process and not arguments.no_sandbox)


def confine_command(
    arguments: argparse.Namespace,
    sources: Sequence[str],
    options: OpenOptions,
    *,
    writable: Sequence[Path] = (),
    readable: Sequence[Path] = (),
    **more: Any,
) -> None:
    """Give up what reading the sources does not need, and for `more` see `Policy`.

    Nothing is done with --no-sandbox, and where this process is somebody else's. Raises VmountError if
    the kernel refuses.
    """
    if not is_confined(arguments):
        return
    policy = policy_for(sources, options, arguments.state_dir.absolute(), writable=writable)
    policy = replace(
        policy,
        readable=(*policy.readable, *readable),
        unix_sockets=policy.unix_sockets or more.pop("unix_sockets", False),
        ports=policy.ports | more.pop("ports", frozenset()),
        capabilities=policy.capabilities | more.pop("capabilities", frozenset()),
        **more,
    )
    if CAP_SYS_ADMIN in policy.capabilities and not any(map(is_vm, sources)):
        # It would let this process read the environment of others. Records of machines name processes.
        own = tuple(path for path in policy.readable if path != PROCESSES)
        policy = replace(policy, readable=(*own, Path("/proc/self"), Path("/proc/sys/kernel")))
    confine(policy)
