"""Timing ours and a peer in turn, so that both see the same machine."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Pair(NamedTuple):
    """Medians in seconds."""

    task: str
    ours: float
    peer: float
    peer_name: str

    @property
    def line(self) -> str:
        """One line of the report."""
        return (
            f"{self.task:<34} ours {self.ours:8.3f} s   {self.peer_name:<18} {self.peer:8.3f} s   "
            f"ours/peer {self.ours / self.peer:5.2f}"
        )


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def shell(command: str, folder: Path) -> Callable[[], object]:
    """Return a call that runs a shell command in a folder; its failure is an exception."""
    return lambda: subprocess.run(["bash", "-ceu", command], cwd=folder, check=True)


def median(values: list[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def drop_caches() -> None:
    """Empty the kernel's page, name and inode caches."""
    subprocess.run(["sync"], check=True)
    Path("/proc/sys/vm/drop_caches").write_text("3")
