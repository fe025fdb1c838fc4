"""Attributes whose values are in inodes of their own: a small block names many of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fixtures.programs import run
from tests.support.parsers.reading import find
from vmount.parsers.errors import Unsupported
from vmount.parsers.ext.filesystem import open_ext
from vmount.parsers.ext.xattr import MAX_VALUE, MAX_VALUES
from vmount.parsers.reader import BytesReader, run_sync

if TYPE_CHECKING:
    from pathlib import Path

ATTRIBUTES = 300
"""Of 64 KiB each: more than MAX_VALUES."""


def test_values_beyond_the_bound_cost_themselves_only(tmp_path: Path) -> None:
    image, value, commands = (tmp_path / name for name in ("ea.img", "value", "commands"))
    with image.open("wb") as file:
        file.truncate(40 << 20)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-b", "65536", "-N", "1024",
        "-O", "ea_inode,^has_journal", str(image))  # fmt: skip
    value.write_bytes(b"v" * MAX_VALUE)
    names = [f"user.n{number}" for number in range(ATTRIBUTES)]
    lines = [f"write {value} file", *(f"ea_set -f {value} file {name}" for name in names)]
    commands.write_text("\n".join(lines) + "\n")
    run("debugfs", "-w", "-f", str(commands), str(image))
    filesystem = run_sync(open_ext(BytesReader(image.read_bytes())))
    file_ino = run_sync(find(filesystem, b"file")).ino
    found = run_sync(filesystem.xattrs(file_ino))
    assert sorted(found) == sorted(name.encode() for name in names)
    values = [attribute.value for attribute in found.values()]
    good = MAX_VALUES // MAX_VALUE
    assert values[:good] == [b"v" * MAX_VALUE] * good
    assert all(isinstance(value, Unsupported) for value in values[good:])
    assert run_sync(filesystem.data(file_ino)).size == MAX_VALUE
