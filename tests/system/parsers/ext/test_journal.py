"""A volume copied while it was in use, against the kernel's own replay of its journal."""

from __future__ import annotations

import random
import re
import struct
from pathlib import Path

import pytest

from fixtures.ext import debugfs, load_facts, save_facts
from fixtures.ext_states import JOURNAL_MAGIC, build_unclean
from tests.support.parsers.ext.support import (
    FileSource,
    MemorySource,
    read_range,
    resolve,
    run,
    walk_volume,
)
from vmount.parsers.errors import Corrupt, ParseError
from vmount.parsers.ext.filesystem import open_ext
from vmount.parsers.model import Packed

OPTIONS = {
    "data": "-t ext4 -b 1024 -J size=6",
    "checksums": "-t ext4 -b 1024",
    "4k": "-t ext4 -b 4096",
    "32bit": "-t ext4 -b 2048 -O ^64bit,^metadata_csum",
    "ext3": "-t ext3 -b 1024",
    "fast-commit": "-t ext4 -b 1024 -O fast_commit",
}


@pytest.fixture(scope="session", params=list(OPTIONS))
def unclean(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a volume as it was (`unclean`) and with its journal replayed (`replayed`)."""
    folder = tmp_path_factory.mktemp("unclean")
    _, replayed = build_unclean(
        folder, OPTIONS[request.param], "data=journal" if request.param == "data" else ""
    )
    save_facts(replayed)
    return folder


def test_replay_is_the_kernels(unclean: Path) -> None:
    source = FileSource(unclean / "unclean.img")
    volume = run(open_ext(source))
    assert volume.info.warnings == ()
    fixture = load_facts("replayed", unclean)
    walked = sorted(entry for entry, _ in walk_volume(volume, source))
    assert walked == [entry.walked for entry in fixture.entries]
    if any(entry.path == b"escaped" for entry in walked):
        data = run(volume.data(resolve(volume, b"escaped").ino))
        assert isinstance(data.layout, Packed)
        assert read_range(source, data, 1, 5) == (JOURNAL_MAGIC * 2)[1:6]


def test_without_the_replay_it_would_be_wrong(unclean: Path) -> None:
    """What is compared above is in the journal only."""
    before = debugfs(unclean / "unclean.img", "ls /new")
    assert "moved" not in before
    assert "moved" in debugfs(unclean / "replayed.img", "ls /new")


@pytest.mark.parametrize("unclean", ["checksums", "32bit", "ext3"], indirect=True)
def test_the_journals_compared_have_revocations(unclean: Path) -> None:
    assert "(revoke table)" in debugfs(unclean / "unclean.img", "logdump")


def test_damaged_journal_is_a_warning(unclean: Path) -> None:
    data = bytearray((unclean / "unclean.img").read_bytes())
    block_size = 1024 << struct.unpack_from("<I", data, 1024 + 24)[0]
    blocks = debugfs(unclean / "unclean.img", "blocks <8>").splitlines()[-1].split()
    at = int(blocks[0]) * block_size
    data[at : at + 4] = b"\0\0\0\0"
    volume = run(open_ext(MemorySource(data, 100_000)))
    [warning] = volume.info.warnings
    assert re.search("journal superblock: magic.*the journal has not been replayed", warning)
    assert resolve(volume, b"old/file-3").size


@pytest.mark.parametrize("unclean", ["checksums", "4k", "data"], indirect=True)
@pytest.mark.parametrize("spare_superblock", [True, False])
def test_damaged_blocks_in_the_journal_are_not_shown(unclean: Path, spare_superblock: bool) -> None:
    """They cost what needs them; if it is the superblock, then the whole replay."""
    image = unclean / "unclean.img"
    blocks = debugfs(image, "blocks <8>").splitlines()[-1].split()
    data = bytearray(image.read_bytes())
    block_size = 1024 << struct.unpack_from("<I", data, 1024 + 24)[0]
    for block in blocks[1:2000]:
        at = int(block) * block_size
        magic = at + 0x38 + (1024 if block_size > 1024 else 0)
        if data[at : at + 4] == JOURNAL_MAGIC:
            continue
        if data[magic : magic + 2] != b"\x53\xef" or not spare_superblock:
            data[at + 100] ^= 1
    if spare_superblock:
        with pytest.raises(Corrupt, match="in the journal: checksum"):
            volume = run(open_ext(MemorySource(data, 100_000)))
            run(volume.listdir(resolve(volume, b"new").ino))
    else:
        volume = run(open_ext(MemorySource(data, 100_000)))
        [warning] = volume.info.warnings
        assert re.search("in the journal: checksum.*has not been replayed", warning)
        assert run(volume.lookup(volume.root, b"new")) is None


@pytest.mark.requirement("R22")
@pytest.mark.parametrize("unclean", ["checksums", "ext3"], indirect=True)
def test_mutated_journals_give_values_or_parse_errors(unclean: Path) -> None:
    image = unclean / "unclean.img"
    original = image.read_bytes()
    blocks = debugfs(image, "blocks <8>").splitlines()[-1].split()
    rng = random.Random(3)
    outcomes = set()
    for _ in range(100):
        data = bytearray(original)
        for _ in range(rng.choice((1, 3, 20))):
            at = int(rng.choice(blocks[: rng.choice((2, 100))])) * 1024 + rng.randrange(64)
            data[at : at + 4] = rng.choice((bytes(4), b"\xff" * 4, rng.randbytes(4)))
        try:
            source = MemorySource(data, 20_000)
            volume = run(open_ext(source))
            outcomes.add(bool(volume.info.warnings))
            list(walk_volume(volume, source))
        except (ParseError, AssertionError) as error:
            # The walk of these tests asserts that names have readable inodes.
            assert "too many reads" not in str(error)
    assert outcomes == {True, False}
