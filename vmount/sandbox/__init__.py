"""Giving up what a process does not need, for as long as it lives: the kernel enforces it."""

from vmount.sandbox.confining import Confinement, confine
from vmount.sandbox.policy import Policy

__all__ = ["Confinement", "Policy", "confine"]
