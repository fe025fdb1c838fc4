"""Undo records: what running processes must undo, recorded so that it is undone whatever happens.

Each process has a journal (`journal`) of undo records that it has done and must undo (`undo records`), in a folder
(`folder`, `place`) that survives a reboot. `vmount cleanup` undoes what processes that were killed have left.
"""

from vmount.state.folder import MountRecord, StateDir
from vmount.state.journal import Entry, Journal
from vmount.state.place import default_state_dir
from vmount.state.processes import process_start

__all__ = ["Entry", "Journal", "MountRecord", "StateDir", "default_state_dir", "process_start"]
