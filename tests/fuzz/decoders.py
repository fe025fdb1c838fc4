"""Targets that decode one structure: the input is the structure."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Mapping
from itertools import islice

from tests.fuzz.walks import FORGIVEN
from tests.support.backends.nbd.feeding import feed
from vmount.backends.nbd.handshake import (
    OptionRefused,
    Receive,
    list_dialogue,
    negotiate,
)
from vmount.backends.nbd.wire import NbdProtocolError, Transmission
from vmount.blocks.assembly import build_source
from vmount.guest.fstab import parse_fstab
from vmount.guest.linux import parse_os_release
from vmount.parsers.errors import ParseError
from vmount.parsers.exfat.entry import ENTRY_SIZE
from vmount.parsers.exfat.entry_set import decode_set, set_checksum
from vmount.parsers.ext.acl import system_acl
from vmount.parsers.ext.xattr import decode_attribute_block, decode_inode_attributes
from vmount.parsers.ldm.vblk import parse_record
from vmount.parsers.lvm.assemble import assemble_lvm
from vmount.parsers.lvm.btree import BLOCK as NODE_BLOCK
from vmount.parsers.lvm.btree import NODE_SALT, block_checksum, decode_node
from vmount.parsers.lvm.group import decode_group
from vmount.parsers.lvm.physical import PhysicalVolume
from vmount.parsers.md import superblock_1, superblock_90
from vmount.parsers.md.assemble import assemble_md
from vmount.parsers.ntfs.attribute import decode_attributes
from vmount.parsers.ntfs.attribute_list import decode_attribute_list
from vmount.parsers.ntfs.ea import decode_eas
from vmount.parsers.ntfs.index import decode_index_root
from vmount.parsers.ntfs.index import decode_node as decode_index_node
from vmount.parsers.ntfs.interix import decode_interix
from vmount.parsers.ntfs.logfile import latest_restart
from vmount.parsers.ntfs.lznt1 import decode_lznt1
from vmount.parsers.ntfs.lzx import decode_lzx
from vmount.parsers.ntfs.reparse import decode_reparse
from vmount.parsers.ntfs.runlist import decode_runs
from vmount.parsers.ntfs.xpress import decode_xpress
from vmount.parsers.partition.gpt import decode_entries
from vmount.parsers.reader import BytesReader, run_sync
from vmount.parsers.registry import Hive, open_hive
from vmount.parsers.registry.base_block import BASE_BLOCK, checksum_of
from vmount.parsers.registry.cells import Key
from vmount.parsers.registry.mounted_devices import decode_mounted_devices
from vmount.parsers.vmdk.descriptor import parse_descriptor
from vmount.parsers.vmdk.vmx import parse_vmx

BLOCK = 1024
"""Bytes in the smallest block of an ext volume: a whole one is read always."""
CHUNK = 32 << 10
"""Bytes in a decoded chunk of the largest of WOF's units."""


def lznt1(data: bytes) -> None:
    assert len(decode_lznt1(data, CHUNK)) == CHUNK


def xpress(data: bytes) -> None:
    assert len(decode_xpress(data, 4096)) == 4096


def lzx(data: bytes) -> None:
    assert len(decode_lzx(data, CHUNK)) == CHUNK


def ntfs_structures(data: bytes) -> None:
    """All that a record of the MFT points to; a first byte chooses."""
    kind, rest = data[:1], data[1:]
    match kind:
        case b"a":
            decode_attributes(rest, 0, 0)
        case b"l":
            decode_attribute_list(rest)
        case b"e":
            decode_eas(rest)
        case b"r":
            decode_index_root(rest)
        case b"n":
            decode_index_node(rest, 0, len(rest), 0)
        case b"i":
            decode_interix(rest, hidden=False)
        case b"$":
            latest_restart(rest)
        case b"p":
            decode_reparse(rest)
        case _:
            decode_runs(rest, 0, 1000, 4096, 1 << 20)


def ext_structures(data: bytes) -> None:
    data = data.ljust(BLOCK, b"\0")
    for decode in (
        lambda: decode_inode_attributes(data, 0),
        lambda: decode_attribute_block(data, 0),
        lambda: system_acl(data),
    ):
        with contextlib.suppress(*FORGIVEN):
            decode()


def texts(data: bytes) -> None:
    """Files of the guest and of the machine."""
    for decode in (parse_descriptor, parse_vmx, parse_fstab, parse_os_release):
        with contextlib.suppress(*FORGIVEN):
            decode(data)


def gpt_entries(data: bytes) -> None:
    decode_entries(data[: len(data) // 128 * 128], 128, 512)


def ldm_record(data: bytes) -> None:
    parse_record(data)


def lvm_text(data: bytes) -> None:
    """Metadata whose checksum is right: volumes put together from it, and their beginnings read."""
    group = decode_group(data.decode("utf-8", "surrogateescape"))
    disk = BytesReader(bytes(1 << 20))
    entries = islice(group.pvs.values(), 8)
    members = [
        (f"pv{number}", PhysicalVolume(entry.uuid, group, (), disk, True))
        for number, entry in enumerate(entries)
    ]
    devices = {name: disk for name, _ in members}
    for volume in run_sync(assemble_lvm(members)).volumes[:64]:
        try:
            source = run_sync(volume.open(lambda mapping: build_source(mapping, devices)))
            run_sync(source.read(0, min(4096, source.size)))
        except FORGIVEN:
            pass


def thin_node(data: bytes) -> None:
    """A node of a thin pool's B-tree with the checksum that it should have."""
    raw = bytearray(data[:NODE_BLOCK].ljust(NODE_BLOCK, b"\0"))
    raw[:4] = block_checksum(raw, NODE_SALT).to_bytes(4, "little")
    decode_node(bytes(raw), int.from_bytes(raw[8:16], "little"))


def exfat_set(data: bytes) -> None:
    """The entries of a file with the checksum that they should have."""
    padded = data.ljust(ENTRY_SIZE, b"\0")
    raw = bytearray(padded[: ENTRY_SIZE * (padded[1] + 1)])
    raw[2:4] = set_checksum(bytes(raw)).to_bytes(2, "little")
    decode_set(bytes(raw))


def md_superblock(data: bytes) -> None:
    """A superblock with the checksum that it should have."""
    layout = superblock_1.SUPERBLOCK
    raw = bytearray(data[:4096].ljust(4096, b"\0"))
    with contextlib.suppress(ParseError):
        superblock_90.decode(bytes(raw), 0)
    (roles,) = struct.unpack_from("<I", raw, layout.offset("role_count"))
    at = layout.offset("checksum")
    size = min(layout.size + 2 * roles, len(raw)) // 4 * 4
    raw[at : at + 4] = bytes(4)
    total = sum(struct.unpack_from(f"<{size // 4}I", raw))
    struct.pack_into("<I", raw, at, ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF)
    struct.pack_into("<Q", raw, layout.offset("super_offset"), 8)
    member, _ = superblock_1.decode(bytes(raw), "1.2", 8 * 512)
    disk = BytesReader(bytes(1 << 20))
    for array in assemble_md([("a", member), ("b", member)]).arrays:
        if array.mapping is not None:
            source = build_source(array.mapping, {"a": disk, "b": disk})
            run_sync(source.read(0, min(4096, source.size)))


def hive(data: bytes) -> None:
    """A hive with the checksum that it should have; all keys and values."""
    raw = bytearray(data)
    if len(raw) >= BASE_BLOCK.size:
        struct.pack_into("<I", raw, 508, checksum_of(bytes(raw[:508])))
    opened = run_sync(open_hive(BytesReader(bytes(raw))))
    todo, seen = [run_sync(opened.root())], 0
    while todo and seen < 300:
        key = todo.pop()
        seen += 1
        _key(opened, key, todo)


def _key(opened: Hive, key: Key, todo: list[Key]) -> None:
    with contextlib.suppress(*FORGIVEN):
        decode_mounted_devices(run_sync(opened.values(key)))
    try:
        todo += run_sync(opened.subkeys(key))[:50]
        run_sync(opened.subkey(key, "Select"))
    except FORGIVEN:
        pass


def nbd_handshake(data: bytes) -> None:
    for dialogue in (negotiate("disk", tls=False), list_dialogue(tls=False)):
        left = data
        asked = next(dialogue)
        try:
            while True:
                answer = b""
                if isinstance(asked, Receive):
                    assert asked.length <= 1 << 20
                    if asked.length > len(left):
                        break
                    answer, left = left[: asked.length], left[asked.length :]
                asked = dialogue.send(answer)
        except (NbdProtocolError, OptionRefused, StopIteration):
            pass


def nbd_wire(data: bytes) -> None:
    for structured in (False, True):
        codec = Transmission(structured=structured, context=7 if structured else None)
        kept = [bytearray(4096) for _ in range(3)]
        for number, into in enumerate(kept):
            codec.read(4096 * number, memoryview(into))
        if structured:
            codec.block_status(0, 1 << 20)
        with contextlib.suppress(NbdProtocolError):
            feed(codec, data)


DECODERS: Mapping[str, Callable[[bytes], None]] = {
    "exfat-set": exfat_set,
    "ext-structures": ext_structures,
    "gpt-entries": gpt_entries,
    "hive": hive,
    "ldm-record": ldm_record,
    "lvm-text": lvm_text,
    "lznt1": lznt1,
    "lzx": lzx,
    "md-superblock": md_superblock,
    "nbd-handshake": nbd_handshake,
    "nbd-wire": nbd_wire,
    "ntfs-structures": ntfs_structures,
    "texts": texts,
    "thin-node": thin_node,
    "xpress": xpress,
}
