"""The guest's operating systems: what they are, and where they mount their volumes.

info holds the facts about a system; files reads a guest's own files; windows and linux each know a family;
machine puts together what was found on a set of volumes.
"""

from vmount.guest.info import GuestInfo
from vmount.guest.linux import RootMount
from vmount.guest.machine import Guest, find_guest

__all__ = ["Guest", "GuestInfo", "RootMount", "find_guest"]
