"""The UUIDs of VMFS, which are not laid out as anybody else's.

Source: reverse engineered, vmfs-tools and dissect.vmfs (c_lvm.py, UUID).
"""

from __future__ import annotations

from vmount.parsers.layout import Field, Layout
from vmount.parsers.reader import Buffer

SIZE = 16
"""Bytes on disk."""

UUID = Layout(
    "VMFS UUID",
    Field("time_low", "I", at=0x00, note="timeLo"),
    Field("time_high", "I", at=0x04, note="timeHi"),
    Field("random", "H", at=0x08, note="rand"),
    Field("mac", "6s", at=0x0A, note="macAddr: of the host that made it"),
    size=SIZE,
    source="reverse engineered: vmfs-tools; dissect.vmfs c_lvm.py UUID",
)
_UUID = UUID.whole()


def uuid_text(raw: Buffer) -> str:
    """Return a UUID as ESXi prints it: two times, a random number and a MAC address."""
    low, high, random, mac = _UUID.unpack(raw)
    return f"{low:08x}-{high:08x}-{random:04x}-{mac.hex()}"
