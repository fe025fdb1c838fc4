"""What a parser raises for damage says which kind it is, and about what."""

from __future__ import annotations

from enum import StrEnum

import pytest

from vmount.parsers.errors import Corrupt
from vmount.parsers.ext.errors import Damage as ExtDamage
from vmount.parsers.ntfs.errors import Damage as NtfsDamage
from vmount.parsers.vmfs.errors import Damage as VmfsDamage
from vmount.parsers.xfs.errors import Damage as XfsDamage


def test_a_kind_is_kept_and_its_words_are_the_message() -> None:
    error = Corrupt(NtfsDamage.FIX_UP_COUNT, 0x400, expected=3, actual=4)
    assert error.kind is NtfsDamage.FIX_UP_COUNT
    assert str(error) == "fix-up count at 0x400: expected 0x3, found 0x4"


def test_what_is_damaged_stands_in_the_message() -> None:
    error = Corrupt(XfsDamage.INODE_MAGIC, of="{0}")
    assert error.kind is XfsDamage.INODE_MAGIC
    assert str(error) == "inode {0}: magic"


@pytest.mark.parametrize("kinds", [NtfsDamage, ExtDamage, XfsDamage, VmfsDamage])
def test_no_two_kinds_have_the_same_words(kinds: type[StrEnum]) -> None:
    assert len({str(kind) for kind in kinds}) == len(kinds.__members__)
