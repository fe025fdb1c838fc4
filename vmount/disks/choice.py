"""Which disks of a VM are opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from vmount.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")


@dataclass(frozen=True)
class DiskChoice:
    """Names of disks of a VM: their controller addresses, "scsi0-0" or "scsi0:0"."""

    names: tuple[str, ...] = ()
    """Empty: all disks."""

    def of(self, machine: str, disks: Iterable[T], name_of: Callable[[T], str]) -> list[T]:
        """Return the chosen ones of a VM's disks, in their order. Raises UsageError for a name that no disk
        has."""
        known = list(disks)
        if not self.names:
            return known
        names = [_usual(name_of(disk)) for disk in known]
        wanted = {_usual(name) for name in self.names}
        if missing := wanted.difference(names):
            raise UsageError(
                f"{machine}: has no disk {', '.join(sorted(missing))}",
                remedy=f"its disks are {', '.join(names) or 'none'}",
            )
        return [disk for disk, name in zip(known, names, strict=True) if name in wanted]


def _usual(name: str) -> str:
    """Return a controller's address as vmount has it: "scsi0-0"."""
    return name.strip().lower().replace(":", "-")
