"""A chain of snapshots on the LUNs of a datastore, beside what qemu-img makes of the same files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fixtures import vmdk
from tests.contracts.block_source import check_block_source
from tests.support.datastores.vmfs_luns import unpack
from tests.support.loop_devices import attached
from tests.support.parsers.vmfs.builder import Builder
from vmount.backends.block_device import DirectOptions
from vmount.cache import CacheOptions
from vmount.datastores.disk import DatastoreReading, open_datastore_disk
from vmount.datastores.lun_choice import LunChoice
from vmount.datastores.path import DatastorePath
from vmount.datastores.san import SanBackend
from vmount.parsers.vmfs.descriptor import Type

if TYPE_CHECKING:
    from pathlib import Path

    import trio

LINKS = 5


@pytest.mark.requirement("R46")
@pytest.mark.parametrize("version", [5, 6])
async def test_a_chain_on_luns_reads_as_qemu_reads_it(
    version: int, tmp_path: Path, nursery: trio.Nursery
) -> None:
    folder = tmp_path / "chain"
    folder.mkdir()
    disk = vmdk.build_chain(folder, LINKS)
    builder = Builder(unpack(tmp_path)[version], tmp_path)
    files = [
        (path.name, builder.copy(path.read_bytes()), Type.FILE)
        for path in sorted(folder.glob("*.vmdk"))
    ]
    builder.add_to_root("web", builder.directory(files))
    builder.close()
    with attached(builder.paths[0]) as first, attached(builder.paths[1]) as second:
        backend = SanBackend(LunChoice((str(first), str(second))), nursery, DirectOptions())
        opened = await open_datastore_disk(
            backend,
            DatastorePath(f"vmfs{version}", f"web/{disk.path.name}"),
            nursery,
            DatastoreReading(CacheOptions()),
        )
        assert len(opened.chain) == LINKS
        await check_block_source(opened.data, disk.flat.read_bytes())
        await opened.aclose()
        await backend.aclose()
