"""Confining this process to a policy, with as much as its kernel has."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmount.errors import Remedy, VmountError, explain
from vmount.sandbox import landlock, seccomp
from vmount.sandbox.kernel import keep_capabilities, keep_memory_private

if TYPE_CHECKING:
    from vmount.sandbox.policy import Policy

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Confinement:
    """What the kernel enforces."""

    landlock: int
    """The version of Landlock; 0: paths and ports are not restricted."""
    seccomp: bool
    """Whether system calls are filtered."""


def confine(policy: Policy) -> Confinement:
    """Give up for ever what the policy does not name: in this thread and all that it starts.

    Call it before there are other threads. Raises VmountError if the kernel refuses something that it supports.
    """
    try:
        keep_memory_private()
        # A program that is started would inherit the paths too, and needs others.
        version = 0 if policy.starts_programs else landlock.restrict(policy)
        keep_capabilities(policy.capabilities)
        done = Confinement(version, seccomp.restrict(policy))
    except OSError as error:
        raise VmountError(
            f"this process cannot be confined: {explain(error)}",
            remedy=Remedy("to read disks unconfined, use --no-sandbox"),
        ) from error
    log.debug("confined: %s to %s", done, policy)
    return done
