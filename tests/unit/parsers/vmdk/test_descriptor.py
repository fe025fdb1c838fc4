"""Descriptor text as VMware's products write it, damaged, and cut off anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmount.parsers.errors import Corrupt, NotRecognised, ParseError, Unsupported
from vmount.parsers.vmdk.descriptor import (
    MAX_DESCRIPTOR,
    Access,
    ExtentLine,
    is_descriptor,
    parse_descriptor,
)

TEXT = """\
# Disk DescriptorFile
version=1
encoding="UTF-8"
CID=0fb3bbf1
parentCID=a1b2c3d4
isNativeSnapshot="no"
createType="twoGbMaxExtentFlat"
parentFileNameHint="C:\\Virtual Machines\\web 01\\web 01.vmdk"

# Extent description
RW 4192256 FLAT "web 01-f001.vmdk" 0
RDONLY 63 FLAT "web 01-f001.vmdk" 4192256
NOACCESS 10 ZERO
RW 2048 VMFS "web 01-flat.vmdk"
RW 4096 SESPARSE "web 01-sesparse.vmdk"

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
ddb.geometry.sectors = "63"
ddb.longContentID = "a02e0d1aa7d47a1e0a3a7aa90fb3bbf1"
ddb.uuid = "60 00 C2 9c 5c 11 a8 38-6d f5 1f 35 53 32 fb 20"
"""


def test_every_field() -> None:
    found = parse_descriptor(TEXT.encode())
    assert found.version == 1
    assert found.encoding == "UTF-8"
    assert (found.cid, found.parent_cid) == (0x0FB3BBF1, 0xA1B2C3D4)
    assert found.create_type == "twoGbMaxExtentFlat"
    assert found.parent_hint == "C:\\Virtual Machines\\web 01\\web 01.vmdk"
    assert found.extents == (
        ExtentLine(Access.READ_WRITE, 4192256, "FLAT", "web 01-f001.vmdk", 0, False),
        ExtentLine(Access.READ_ONLY, 63, "FLAT", "web 01-f001.vmdk", 4192256, False),
        ExtentLine(Access.NONE, 10, "ZERO", None, 0, False),
        ExtentLine(Access.READ_WRITE, 2048, "VMFS", "web 01-flat.vmdk", 0, False),
        ExtentLine(Access.READ_WRITE, 4096, "SESPARSE", "web 01-sesparse.vmdk", 0, False),
    )
    assert found.sectors == 4192256 + 63 + 10 + 2048 + 4096
    assert found.ddb["adapterType"] == "lsilogic"
    assert found.ddb["geometry.sectors"] == "63"
    assert found.ddb["uuid"].startswith("60 00 C2 9c")
    assert found.keys["isNativeSnapshot"] == "no"
    assert found.doubts == ()


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_line_ends(end: str) -> None:
    assert parse_descriptor(TEXT.replace("\n", end).encode()) == parse_descriptor(TEXT.encode())


def test_a_byte_order_mark_and_the_padding_of_an_embedded_descriptor() -> None:
    expected = parse_descriptor(TEXT.encode())
    assert parse_descriptor(b"\xef\xbb\xbf" + TEXT.encode()) == expected
    assert parse_descriptor(TEXT.encode() + bytes(9000)) == expected
    assert parse_descriptor(memoryview(TEXT.encode())) == expected


@pytest.mark.parametrize(
    ("encoding", "codec", "name"),
    [
        ("windows-1252", "cp1252", "café Œuvre €"),
        ("UTF-8", "utf-8", "日本語 ✓"),
        ("Shift_JIS", "shift_jis", "表示ソ"),
        ("GBK", "gbk", "磁盘"),
        ("windows-1251", "cp1251", "диск"),
        ("ISO-8859-1", "latin-1", "système"),
        ("ibm-850", "cp850", "système"),
    ],
)
def test_names_in_the_encoding_that_the_descriptor_names(
    encoding: str, codec: str, name: str
) -> None:
    text = TEXT.replace("UTF-8", encoding).replace("web 01-flat", name)
    assert parse_descriptor(text.encode(codec)).extents[3].name == f"{name}.vmdk"


def test_without_an_encoding_key_utf_8_is_tried_first() -> None:
    text = TEXT.replace('encoding="UTF-8"\n', "").replace("web 01-flat", "système")
    assert parse_descriptor(text.encode()).extents[3].name == "système.vmdk"
    assert parse_descriptor(text.encode("latin-1")).extents[3].name == "système.vmdk"


@pytest.mark.parametrize("name", ["klingon", "utf-16", "unicode_escape", "base64", "undefined"])
def test_an_encoding_that_cannot_be_is_refused(name: str) -> None:
    text = TEXT.replace("UTF-8", name).replace("web 01-flat", "é")
    with pytest.raises((Unsupported, Corrupt), match=name):
        parse_descriptor(text.encode("latin-1"))
    assert parse_descriptor(TEXT.replace("UTF-8", name).encode()).encoding == name


@pytest.mark.parametrize("digits", range(1, 9))
def test_a_cid_that_qemu_made_shorter_leaves_the_old_end_of_the_text(digits: int) -> None:
    text = TEXT.encode()
    shorter = text.replace(b"CID=0fb3bbf1", b"CID=0fb3bbf1"[: 4 + digits], 1)
    written = shorter + b"\0" + text[len(shorter) + 1 :] + bytes(512)
    assert parse_descriptor(written).cid == int("0fb3bbf1"[:digits], 16)
    with pytest.raises(Corrupt, match="zero byte within the descriptor"):
        parse_descriptor(shorter + b"\0" + b"RW 8\n" + bytes(512))


def test_text_that_is_not_in_its_encoding_is_refused() -> None:
    with pytest.raises(Corrupt, match="text is not UTF-8"):
        parse_descriptor(TEXT.replace("web", "sé").encode("latin-1"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("RW 2048 VMFS", "RW 2O48 VMFS", "extent on line 14 .*2O48"),
        ("RW 2048 VMFS", "RW", "extent on line 14"),
        ("RW 2048 VMFS", "XX 2048 VMFS", "line 14 .*not a key or an extent"),
        ('"web 01-flat.vmdk"', '"web 01-flat.vmdk', "extent on line 14"),
        (
            '"web 01-flat.vmdk"',
            '"web 01-flat.vmdk" 0 more',
            "line 14 .*has trailing text: found 'more'",
        ),
        ('"web 01-flat.vmdk"', '""', "line 14 .*empty name"),
        ('"web 01-flat.vmdk"', "", "line 14 .*names no file"),
        ('"web 01-f001.vmdk" 0', '"web 01-f001.vmdk"', "flat extent on line 11 .*no start"),
        ("RW 2048", "RW 99999999999999999999", "line 14 .*too large"),
        ("CID=0fb3bbf1", "CID=0fb3bbfg", "CID in the descriptor is not a number"),
        ("CID=0fb3bbf1", "CID=0fb3bbf11", "CID in the descriptor is not a number"),
        ("version=1\n", "version=1\nversion=2\n", "repeats version: expected 1"),
        ('createType="twoGbMaxExtentFlat"\n', "", "without createType"),
        ('"lsilogic"', '"lsilogic', "quote not closed on line 20"),
        ("ddb.adapterType", "\0\0\0", "zero byte within the descriptor at 0x"),
    ],
)
def test_damage(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(Corrupt, match=message) as caught:
        parse_descriptor(TEXT.replace(old, new, 1).encode())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('encryptionKeys="vmware:key/list/(pair/(null/"', "encrypted disk .*encryptionKeys"),
        ('ddb.iofilters = "vmwarevmcrypt"', "encrypted disk .*vmwarevmcrypt"),
        ("version=5", "descriptor version 5"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(line: str, message: str) -> None:
    text = TEXT.replace("version=1", line) + "\n"
    with pytest.raises(Unsupported, match=message):
        parse_descriptor(text.replace("# Disk", "# Disk", 1).encode())


def test_what_is_no_descriptor_is_not_recognised() -> None:
    for data in (b"", b"hello", b"[main]\nversion=1\n", bytes(512), b"#!/bin/sh\necho\n"):
        assert not is_descriptor(data)
        with pytest.raises(NotRecognised):
            parse_descriptor(data)
    assert is_descriptor(b"# a comment\n\nversion=1\n")


def test_a_descriptor_beyond_any_sense_is_refused() -> None:
    with pytest.raises(Corrupt, match="too long"):
        parse_descriptor(TEXT.encode().ljust(MAX_DESCRIPTOR + 1))


def test_a_cut_never_loses_an_extent_without_a_word() -> None:
    full = parse_descriptor(TEXT.encode())
    outcomes = set()
    for length in range(len(TEXT)):
        try:
            found = parse_descriptor(TEXT[:length].encode())
        except ParseError as error:
            assert "\n" not in str(error)
            outcomes.add("refused")
            continue
        if found.extents == full.extents:
            outcomes.add("whole")
        else:
            assert found.doubts
            assert found.extents == full.extents[: len(found.extents)]
            outcomes.add("doubted")
    assert outcomes == {"refused", "whole", "doubted"}


def test_a_cut_within_the_start_of_the_last_extent_is_refused() -> None:
    head = TEXT[: TEXT.index("RW 4192256")]
    with pytest.raises(Corrupt, match="ends within a number"):
        parse_descriptor(f'{head}RW 8 FLAT "a" 12'.encode())
    assert parse_descriptor(f'{head}RW 8 FLAT "a" 0'.encode()).doubts


@given(st.binary(max_size=300))
def test_any_bytes_give_a_value_or_an_error(tail: bytes) -> None:
    for data in (tail, b"# Disk DescriptorFile\n" + tail, TEXT.encode() + tail):
        try:
            assert parse_descriptor(data).extents
        except ParseError as error:
            assert str(error)
