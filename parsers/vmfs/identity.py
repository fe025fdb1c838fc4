"""The UUIDs of VMFS, which are not laid out as anybody else's.

Source: reverse engineered, vmfs-tools and dissect.vmfs (c_lvm.py, UUID).
"""

from __future__ import annotations

import struct

from vmount.parsers.reader import Buffer

SIZE = 16
"""Bytes on disk."""

_UUID = struct.Struct("<IIH6s")


def uuid_text(raw: Buffer) -> str:
    """Return a UUID as ESXi prints it: two times, a random number and a MAC address."""
    low, high, random, mac = _UUID.unpack(raw)
    return f"{low:08x}-{high:08x}-{random:04x}-{mac.hex()}"
