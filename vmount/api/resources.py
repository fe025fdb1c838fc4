"""What an open disk set holds of the system, and how it is given back: on close, or when the set is dropped."""

from __future__ import annotations

import os
import threading
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmount.api.bridge import InlineBridge

if TYPE_CHECKING:
    from vmount.api.bridge import Bridge
    from vmount.api.handles import Mounting
    from vmount.disk_set import OpenDiskSet
    from vmount.state import Journal


@dataclass(frozen=True)
class Resources:
    """Descriptors, a serving process, perhaps a thread, and the journal of what must be undone."""

    manager: OpenDiskSet
    bridge: Bridge
    mounting: Mounting
    journal: Journal

    def release(self) -> None:
        """Unmount what is mounted and release the sources. For one call."""
        with ExitStack() as stack:
            stack.callback(self.journal.close)
            stack.callback(self.bridge.close)
            stack.callback(self.bridge.run_last, self.manager.aclose)
            stack.callback(self.mounting.close)
            self.bridge.give_up()


def release_dropped(resources: Resources, shown: str, process: int) -> None:
    """Release a set that was dropped without `close`. A process that was forked does nothing: it is not its."""
    if os.getpid() != process:
        return
    warnings.warn(f"unclosed disk set {shown}", ResourceWarning, stacklevel=2)
    if isinstance(resources.bridge, InlineBridge):
        resources.release()
        return
    # Who dropped it may be the garbage collector, in the very thread that would have to do it.
    try:
        threading.Thread(target=resources.release, name="vmount-release").start()
    except RuntimeError:  # the interpreter ends, and starts no more threads
        resources.release()
