"""Hives of every form, as hivex reads them; hives that hivex wrote; damaged ones."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import pytest

from fixtures.hives import (
    BINARY,
    DWORD,
    EXPAND_SZ,
    MULTI_SZ,
    QWORD,
    SZ,
    YEAR_2020,
    Form,
    Key,
    build_hive,
    number,
    read_by_hivex,
    text,
    written_by_hivex,
)
from vmount.parsers.errors import Corrupt, NotRecognised, ParseError, Unsupported
from vmount.parsers.reader import BytesReader, run_sync
from vmount.parsers.registry import Hive, open_hive
from vmount.parsers.registry.base_block import BASE_BLOCK, BINS_START, checksum_of
from vmount.parsers.registry.cells import KEY, decode_key, upper
from vmount.parsers.registry.value import Value

if TYPE_CHECKING:
    from pathlib import Path

    from vmount.parsers.reader import Buffer

FORMS = [
    Form(),
    Form(b"lf"),
    Form(b"li"),
    Form(b"lh", leaf_size=7),
    Form(b"li", leaf_size=7),
    Form(b"lf", leaf_size=7, minor=3),
]

MOST_READS = 20_000


class CountingReader(BytesReader):
    """Bytes in memory; counts what is read."""

    def __init__(self, data: Buffer) -> None:
        super().__init__(data)
        self.reads = 0

    async def read(self, offset: int, length: int) -> Buffer:
        self.reads += 1
        assert self.reads < MOST_READS
        assert length <= 1 << 20
        return self.try_read(offset, length)


def sample() -> Key:
    root = Key("ROOT")
    root.set(r"Select", "Current", DWORD, number(1))
    root.set(r"A\B\C", "", SZ, text("the default one"))
    root.set(r"A\B\C", "Größe", EXPAND_SZ, text("%SystemRoot%\\☃"))
    root.set("Ключ\\日本", "値", BINARY, bytes(range(256)))
    root.set("Ünï\\Zwei", "empty", BINARY, b"")
    root.set("A", "list", MULTI_SZ, "one\0two\0\0".encode("utf-16-le"))
    root.set("A", "long", QWORD, (1 << 40).to_bytes(8, "little"))
    root.set("A", "three bytes", BINARY, b"abc")
    root.set("big", "16344", BINARY, random.Random(1).randbytes(16344))
    root.set("big", "16400", BINARY, random.Random(2).randbytes(16400))
    root.set("big", "100000", BINARY, random.Random(3).randbytes(100_000))
    for index in range(100):
        root.set(rf"many\Key {index}", "number", DWORD, number(index))
    return root


def opened(data: Buffer) -> Hive:
    return run_sync(open_hive(CountingReader(data)))


def walk(hive: Hive, most: int = MOST_READS) -> dict[str, dict[str, str | bytes]]:
    """Return what `read_by_hivex` does."""
    found: dict[str, dict[str, str | bytes]] = {}
    pending = [("", run_sync(hive.root()))]
    while pending:
        path, key = pending.pop()
        found[path] = {value.name: _shown(value) for value in run_sync(hive.values(key))}
        for subkey in run_sync(hive.subkeys(key)):
            pending.append((f"{path}\\{subkey.name}".lstrip("\\"), subkey))
            assert len(found) + len(pending) <= most
    return found


def _shown(value: Value) -> str | bytes:
    return value.raw if value.text is None else value.text


def get(hive: Hive, path: str, name: str) -> Value:
    key = run_sync(hive.find(path))
    assert key is not None
    value = run_sync(hive.value(key, name))
    assert value is not None
    return value


@pytest.mark.parametrize("form", FORMS, ids=repr)
def test_all_forms_as_hivex_reads_them(form: Form, tmp_path: Path) -> None:
    path = tmp_path / "hive"
    path.write_bytes(build_hive(sample(), form))
    expected = read_by_hivex(path)
    assert len(expected) > 100
    assert walk(opened(path.read_bytes())) == expected


def test_a_hive_that_hivex_wrote(tmp_path: Path) -> None:
    keys = "".join(f'[HKEY\\Vendor\\Größe {n}]\n"n"=dword:{n:08x}\n\n' for n in range(40))
    source = (
        '[HKEY\\Vendor]\n@="default"\n"text"="a \\\\ b"\n"bytes"=hex:01,02,03,04,05,06\n\n' + keys
    )
    path = written_by_hivex(tmp_path / "hive", source)
    hive = opened(path.read_bytes())
    assert walk(hive) == read_by_hivex(path)
    assert get(hive, "vendor", "TEXT").text == "a \\ b"
    assert get(hive, r"VENDOR\größe 17", "N").number == 17


@pytest.mark.parametrize("form", FORMS, ids=repr)
def test_names_in_any_case(form: Form) -> None:
    hive = opened(build_hive(sample(), form))
    assert get(hive, r"a\b\c", "").text == "the default one"
    assert get(hive, r"A\B\c", "GRÖSSE".replace("SS", "ß")).text == "%SystemRoot%\\☃"
    assert get(hive, "ключ\\日本", "値").raw == bytes(range(256))
    assert get(hive, "üNÏ\\ZWEI", "Empty").raw == b""
    for index in range(100):
        assert get(hive, rf"MANY\kEY {index}", "NUMBER").number == index
    assert run_sync(hive.find(r"many\Key 100")) is None
    assert run_sync(hive.find(r"none\at\all")) is None
    key = run_sync(hive.find("A"))
    assert key is not None
    assert run_sync(hive.value(key, "none")) is None
    assert key.written == YEAR_2020


def test_upper_case_makes_no_character_of_ascii() -> None:
    assert upper("\u017fpaß \u0131ä") == "\u017fPAß \u0131Ä"


def test_typed_values() -> None:
    hive = opened(build_hive(sample()))
    assert get(hive, "A", "list").texts == ["one", "two"]
    assert get(hive, "A", "long").number == 1 << 40
    assert get(hive, "A", "three bytes").raw == b"abc"
    assert get(hive, "A", "three bytes").number is None
    assert Value("", 5, b"\0\0\1\2").number == 0x102
    assert Value("", DWORD, b"\1\2").number is None
    assert Value("", SZ, "no end".encode("utf-16-le") + b"x").text == "no end"
    assert Value("", MULTI_SZ, "a\0b".encode("utf-16-le")).texts == ["a", "b"]
    assert Value("", BINARY, b"").text is None
    assert Value("", BINARY, b"").texts is None


def test_a_question_takes_a_few_reads_of_a_large_hive() -> None:
    root = sample()
    for index in range(5_000):
        root.set(rf"Software\Component {index:05}", "path", SZ, text("x" * 40))
    data = build_hive(root)
    assert len(data) > 1 << 20
    reader = CountingReader(data)
    hive = run_sync(open_hive(reader))
    assert get(hive, r"software\component 02345", "path").text == "x" * 40
    assert reader.reads < 40


def test_a_dirty_hive_is_read_with_a_warning() -> None:
    hive = opened(build_hive(sample(), Form(dirty=True)))
    (warning,) = hive.warnings
    assert "transaction logs, which are not replayed" in warning
    assert get(hive, "Select", "Current").number == 1
    assert opened(build_hive(sample())).warnings == ()


def test_what_is_no_hive() -> None:
    with pytest.raises(NotRecognised):
        opened(bytes(8192))
    with pytest.raises(Corrupt):
        opened(b"regf")


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("major", 2, Unsupported),
        ("minor", 9, Unsupported),
        ("type", 1, Unsupported),
        ("bins_size", 100, Corrupt),
        ("root", 7, Corrupt),
        ("root", 1 << 31, Corrupt),
    ],
)
def test_base_blocks_that_are_refused(name: str, value: int, error: type[ParseError]) -> None:
    data = bytearray(build_hive(sample()))
    struct.pack_into("<I", data, BASE_BLOCK.offset(name), value)
    struct.pack_into("<I", data, BASE_BLOCK.offset("checksum"), checksum_of(data))
    with pytest.raises(error):
        run_sync(opened(data).root())


def test_a_wrong_checksum_is_damage() -> None:
    data = bytearray(build_hive(sample()))
    data[20] ^= 1
    with pytest.raises(Corrupt, match="checksum"):
        opened(data)


def test_a_hive_cut_short_answers_for_what_it_has() -> None:
    hive = opened(build_hive(sample())[: BINS_START + 4096])
    assert "it is truncated" in hive.warnings
    with pytest.raises(Corrupt):
        walk(hive)


def test_indexes_in_indexes_and_lists_that_repeat_are_refused() -> None:
    """A list that holds itself would have no end."""
    data = bytearray(build_hive(sample(), Form(leaf_size=7)))
    hive = opened(data)
    many = run_sync(hive.find("many"))
    assert many is not None
    index = BINS_START + many.subkeys + 4
    assert data[index : index + 2] == b"ri"
    struct.pack_into("<I", data, index + 4, many.subkeys)
    with pytest.raises(Corrupt, match="list of subkeys"):
        run_sync(opened(data).subkeys(many))
    (second,) = struct.unpack_from("<I", data, index + 8)
    for place in range(15):
        struct.pack_into("<I", data, index + 4 + 4 * place, second)
    with pytest.raises(Corrupt, match="list of subkeys"):
        run_sync(opened(data).subkeys(many))


def test_a_key_with_more_subkeys_than_the_hive_has_room_for_is_refused() -> None:
    content = KEY.build(magic=b"nk", subkey_count=0xFFFFFFF0)
    hive = opened(build_hive(sample()))
    with pytest.raises(Corrupt, match="number of subkeys"):
        run_sync(hive.subkeys(decode_key(content, 0)))
    content = KEY.build(magic=b"nk", value_count=0xFFFFFFF0)
    with pytest.raises(Corrupt, match="number of values"):
        run_sync(hive.values(decode_key(content, 0)))


def test_values_that_share_their_data_do_not_fill_the_memory() -> None:
    data = bytearray(build_hive(Key("ROOT").set("A", "v", BINARY, bytes(1_000_000))))
    hive = opened(data)
    key = run_sync(hive.find("A"))
    assert key is not None
    # The list of a thousand values, all one, is written over the data itself.
    at = data.index(b"vk") - 4 - BINS_START
    place = data.index(bytes(10_000)) & ~7
    struct.pack_into("<i1000I", data, place, -4008, *[at] * 1000)
    crowded = key._replace(value_count=1000, values=place - BINS_START)
    with pytest.raises(Unsupported, match="bytes in the values"):
        run_sync(opened(data).values(crowded))


@pytest.mark.parametrize("form", FORMS, ids=repr)
def test_damaged_hives_cost_an_error_or_give_a_value(form: Form) -> None:
    whole = build_hive(sample(), form)
    chosen = random.Random(5)
    outcomes = set()
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chosen.randint(1, 8)):
            # Most of the hive is the bytes of large values: aim at the structures.
            at = chosen.randrange(BINS_START, min(len(data), BINS_START + 20_000))
            data[at] = chosen.choice((0, 0xFF, chosen.randrange(256)))
        if chosen.random() < 0.2:
            del data[chosen.randrange(len(data)) :]
        try:
            hive = opened(data)
            for path in (r"A\B\C", "big", r"many\Key 77", "Ключ\\日本"):
                key = run_sync(hive.find(path))
                if key is not None:
                    run_sync(hive.values(key))
                    run_sync(hive.subkeys(key))
            outcomes.add("value")
        except ParseError:
            outcomes.add("error")
    assert outcomes == {"value", "error"}
