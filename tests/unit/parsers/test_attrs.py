"""Attributes are what the kernel's types hold, whatever a disk says."""

from __future__ import annotations

import stat

import pytest

from vmount.parsers.errors import Corrupt
from vmount.parsers.model import MAX_SIZE, Attrs, checked_attrs

GOOD = (5, stat.S_IFREG | 0o644, 1, 0, 0, MAX_SIZE, MAX_SIZE, 0, -1, 0, 1, 0)


def test_the_largest_file_is_one() -> None:
    assert checked_attrs(GOOD) == Attrs(*GOOD)


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("ino", 1 << 48, "number of a file"),
        ("size", 1 << 63, "size of a file"),
        ("allocated", 1 << 63, "space that a file takes"),
        ("rdev", 1 << 32, "device number"),
    ],
)
def test_what_the_kernel_does_not_hold_is_damage(field: str, value: int, kind: str) -> None:
    with pytest.raises(Corrupt, match=kind) as caught:
        checked_attrs(Attrs(*GOOD)._replace(**{field: value}), 0x1234)
    assert caught.value.where == 0x1234
