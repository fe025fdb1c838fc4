"""A virtual machine's configuration file (.vmx): which disks it has, and on which controllers.

The file is a dictionary of lines `key = "value"`. VMware documents keys, not the syntax: what is taken
here (keys in any case, |xx for a character in hexadecimal, an encoding key) is what its products write.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vmount.parsers.errors import Corrupt, NotRecognised, Unsupported
from vmount.parsers.reader import Buffer
from vmount.parsers.vmdk.text import decode_text, excerpt, split_lines

MAX_VMX = 4 << 20
"""Bytes: a configuration is some kilobytes."""

_LINE = re.compile(r"([^\s=]+)\s*=\s*(.*)", re.DOTALL)
_NODE = re.compile(r"(scsi|sata|ide|nvme)(\d{1,3}):(\d{1,3})\.(\w+)")
_ESCAPE = re.compile(r"\|([0-9A-Fa-f]{2})")
_NO_FILE = ("", "auto detect", "emptybackingstring")


@dataclass(frozen=True)
class VmxDisk:
    """A disk of a machine."""

    address: str
    """Controller and unit: "scsi0:0", "nvme0:0", "sata0:1", "ide1:0"."""
    file_name: str
    """As it stands: relative to the .vmx file's folder, or absolute."""
    present: bool
    """The machine has it now; a disk that is not present is a remnant of an earlier configuration."""
    mode: str
    """"persistent", "independent-persistent" ...; "" if not given."""
    device_type: str
    """"disk", "scsi-hardDisk", "rdm" ...; "" if not given."""


@dataclass(frozen=True)
class VmxConfig:
    """What a .vmx file says that matters here."""

    display_name: str
    guest_os: str
    """VMware's identifier ("windows9srv-64", "ubuntu-64"); "" if not given."""
    disks: tuple[VmxDisk, ...]
    """In the order of controllers and units. CD-ROM drives are left out."""


def parse_vmx(raw: Buffer) -> VmxConfig:
    """Decode a .vmx file.

    Raises NotRecognised if it is none, Corrupt where a line or its encoding is damaged, Unsupported for an
    encrypted machine.
    """
    data = bytes(raw)
    if len(data) > MAX_VMX or b"\0" in data:
        raise NotRecognised("not a VMX file")
    values = _values(decode_text(data, ".encoding")[0])
    if "encryption.keysafe" in values or "encryption.data" in values:
        raise Unsupported("encrypted virtual machine")
    if "config.version" not in values and "virtualhw.version" not in values:
        raise NotRecognised("not a VMX file: config.version and virtualHW.version are missing")
    return VmxConfig(values.get("displayname", ""), values.get("guestos", ""), _disks(values))


def _values(text: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for number, line in enumerate(split_lines(text), 1):
        if not line or line.startswith("#"):
            continue
        matched = _LINE.fullmatch(line)
        if matched is None:
            if not values:
                raise NotRecognised("not a VMX file")
            raise Corrupt(f"line {number} of the VMX file is not key = value", actual=excerpt(line))
        key, value = matched[1].casefold(), _unquote(matched[2], number)
        if values.setdefault(key, value) != value:
            raise Corrupt(f"line {number} of the VMX file repeats {matched[1]} with another value")
    return values


def _unquote(value: str, number: int) -> str:
    if value.startswith('"'):
        end = value.find('"', 1)
        rest = value[end + 1 :].strip(" \t")
        if end < 0 or (rest and not rest.startswith("#")):
            raise Corrupt(f"quote not closed on line {number} of the VMX file")
        value = value[1:end]
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), value)


def _disks(values: dict[str, str]) -> tuple[VmxDisk, ...]:
    nodes: dict[tuple[str, int, int], dict[str, str]] = {}
    for key, value in values.items():
        matched = _NODE.fullmatch(key)
        if matched is not None:
            bus, controller, unit = matched[1], int(matched[2]), int(matched[3])
            nodes.setdefault((bus, controller, unit), {})[matched[4]] = value
    disks = []
    for (bus, controller, unit), node in sorted(nodes.items()):
        file_name, device_type = node.get("filename", ""), node.get("devicetype", "")
        if file_name.casefold() in _NO_FILE or "cdrom" in device_type.casefold():
            continue
        # IDE controllers are part of the board and have no key of their own.
        powered = bus == "ide" or _is_true(values.get(f"{bus}{controller}.present"))
        disks.append(
            VmxDisk(
                address=f"{bus}{controller}:{unit}",
                file_name=file_name,
                present=powered and _is_true(node.get("present")),
                mode=node.get("mode", ""),
                device_type=device_type,
            )
        )
    return tuple(disks)


def _is_true(value: str | None) -> bool:
    return value is not None and value.casefold() in ("true", "t", "yes", "y", "1", "on")
