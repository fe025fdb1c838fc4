"""R2, R16, R45: disks in datastores read the same by every way; what a name may reach is bounded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio
from pyVim.connect import Disconnect, SmartConnect

from fixtures import vmdk
from tests.contracts.block_source import check_block_source
from tests.system.datastores.conftest import STORE, Places, ways_to
from tests.system.vsphere.conftest import PASSWORD, USER, Vcenter
from tests.unit.datastores.test_path import NAMES
from vmount.backends.base import BackendError
from vmount.cache import CacheOptions
from vmount.datastores.disk import DatastoreReading, open_datastore_disk
from vmount.datastores.opener import DatastoreOpener
from vmount.datastores.path import DatastorePath
from vmount.parsers.errors import ParseError

READING = DatastoreReading(CacheOptions())
WAYS = ["file", "https"]


def put(folder: Path, disk: vmdk.Disk, name: str) -> None:
    """Put a flat disk into a folder under a name of one's own, as vSphere would."""
    folder.mkdir(parents=True, exist_ok=True)
    text = disk.path.read_text().replace("web-flat.vmdk", f"{name}-flat.vmdk")
    (folder / f"{name}.vmdk").write_text(text, "utf-8")
    shutil.copyfile(disk.path.parent / "web-flat.vmdk", folder / f"{name}-flat.vmdk")


@pytest.mark.requirement("R2")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["small", "chain"])
async def test_the_same_bytes_by_every_way(
    places: Places, way: str, kind: str, nursery: trio.Nursery, request: pytest.FixtureRequest
) -> None:
    disk: vmdk.Disk = request.getfixturevalue(kind)
    shutil.copytree(disk.path.parent, places.folder / "web", dirs_exist_ok=True)
    opened = await open_datastore_disk(
        places.open[way](STORE), DatastorePath(STORE, f"web/{disk.path.name}"), nursery, READING
    )
    await check_block_source(opened.data, disk.flat.read_bytes())
    assert len(opened.chain) == (5 if kind == "chain" else 1)
    assert opened.chain[0].name == f"[{STORE}] web/{disk.path.name}"
    assert (opened.distant is None) == (way == "file")
    await opened.aclose()
    await opened.aclose()


@pytest.mark.requirement("R16")
async def test_odd_datastore_names(
    vcenter: Vcenter, small: vmdk.Disk, tmp_path: Path, nursery: trio.Nursery
) -> None:
    names = [name for name in NAMES if "\\" not in name]  # vSphere writes %5c
    expected = small.flat.read_bytes()
    for name, folder in make_datastores(vcenter, names, tmp_path).items():
        put(folder / name, small, name)
        for way, place in ways_to(vcenter, folder).items():
            opened = await open_datastore_disk(
                place(name), DatastorePath(name, f"{name}/{name}.vmdk"), nursery, READING
            )
            assert await opened.data.read(0, len(expected)) == expected, (name, way)
            await opened.aclose()


def make_datastores(vcenter: Vcenter, names: list[str], folder: Path) -> dict[str, Path]:
    """Make datastores in the simulated vCenter; return the folders of their files."""
    service = SmartConnect(
        host=vcenter.host, port=vcenter.port, user=USER, pwd=PASSWORD, sslContext=vcenter.trusting()
    )
    (center,) = service.RetrieveContent().rootFolder.childEntity
    system = center.hostFolder.childEntity[0].host[0].configManager.datastoreSystem
    folders = {}
    for number, name in enumerate(names):
        folders[name] = folder / f"store{number}"
        folders[name].mkdir()
        system.CreateLocalDatastore(name, str(folders[name]))
    Disconnect(service)
    return folders


@pytest.mark.parametrize("way", WAYS)
async def test_where_descriptors_names_lead(
    places: Places, chain: vmdk.Disk, way: str, nursery: trio.Nursery
) -> None:
    """A linked clone: the parent in another folder, named as an ESXi host names it."""
    shutil.copytree(chain.path.parent, places.folder / "base")
    clone = places.folder / "clone"
    clone.mkdir()
    shutil.move(places.folder / "base" / chain.path.name, clone)
    text = (clone / chain.path.name).read_bytes()
    parent = b'parentFileNameHint="chain-000003.vmdk"'
    named = b'parentFileNameHint="/vmfs/volumes/5f-uuid/base/chain-000003.vmdk"'
    assert text.count(parent) == 1
    padding = b"\0" * (len(named) - len(parent))
    at = text.index(parent)
    end = text.index(b"\0", at)
    new = text[:at] + named + text[at + len(parent) : end] + text[end + len(padding) :]
    (clone / chain.path.name).write_bytes(new)
    file = DatastorePath(STORE, f"clone/{chain.path.name}")
    reading = DatastoreReading(CacheOptions(), volumes={"5f-uuid": STORE})
    opened = await open_datastore_disk(places.open[way](STORE), file, nursery, reading)
    await check_block_source(opened.data, chain.flat.read_bytes())
    assert opened.chain[1].name == f"[{STORE}] base/chain-000003.vmdk"
    await opened.aclose()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("file", "kind"),
    [("none.vmdk", OSError), ("text.vmdk", ParseError)],
)
async def test_what_cannot_be_opened_leaves_nothing(
    places: Places, way: str, file: str, kind: type[Exception], nursery: trio.Nursery
) -> None:
    (places.folder / "web").mkdir()
    (places.folder / "web/text.vmdk").write_text("nothing of use")
    place = places.open[way](STORE)
    with pytest.raises(kind):
        await open_datastore_disk(place, DatastorePath(STORE, f"web/{file}"), nursery, READING)


async def test_another_datastore_is_not_here(places: Places) -> None:
    opener = DatastoreOpener(places.open["file"](STORE), None, CacheOptions())
    with pytest.raises(BackendError, match="'other' is not mounted here"):
        await opener.open("[other] a.vmdk", None)


@pytest.mark.parametrize("way", WAYS)
async def test_a_descriptor_reaches_its_folder_and_disks_only(
    places: Places, way: str, nursery: trio.Nursery
) -> None:
    for name in ("web/web.vmdk", "web/notes", "db/db.vmdk", "db/secrets"):
        path = places.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    opener = DatastoreOpener(places.open[way](STORE), nursery, CacheOptions())
    descriptor = await opener.open("[LocalDS_0] web/web.vmdk", None)
    for name in ("notes", "../db/db.vmdk", "/vmfs/volumes/LocalDS_0/db/db.vmdk", "..\\db\\db.vmdk"):
        found = await opener.open(name, descriptor.name)
        content = bytes(await found.source.read(0, found.source.size))
        assert f"[{STORE}] {content.decode()}" == found.name
    for name in ("../db/secrets", "/vmfs/volumes/LocalDS_0/db/secrets"):
        with pytest.raises(OSError, match=r"secrets|not opened"):
            await opener.open(name, descriptor.name)
    with pytest.raises(OSError, match="passwd"):
        await opener.open("../../../../../../etc/passwd", descriptor.name)
    await opener.aclose()


async def test_links_stay_in_the_folder(places: Places) -> None:
    (places.folder / "inside.vmdk").write_bytes(b"inside")
    (places.folder / "link.vmdk").symlink_to("inside.vmdk")
    (places.folder / "out.vmdk").symlink_to("/etc/passwd")
    opener = DatastoreOpener(places.open["file"](STORE), None, CacheOptions())
    inside = await opener.open(f"[{STORE}] link.vmdk", None)
    assert bytes(await inside.source.read(0, 6)) == b"inside"
    with pytest.raises(PermissionError, match="points outside"):
        await opener.open(f"[{STORE}] out.vmdk", None)
    await opener.aclose()


@pytest.mark.requirement("R55")
async def test_all_files_of_a_disk_share_the_cache(
    places: Places, chain: vmdk.Disk, nursery: trio.Nursery
) -> None:
    shutil.copytree(chain.path.parent, places.folder / "web")
    capacity = 1 << 20
    opened = await open_datastore_disk(
        places.open["https"](STORE),
        DatastorePath(STORE, f"web/{chain.path.name}"),
        nursery,
        DatastoreReading(CacheOptions(capacity=capacity)),
    )
    expected = chain.flat.read_bytes()
    assert await opened.data.read(0, len(expected)) == expected
    assert opened.distant is not None
    assert 0 < opened.distant.stats()["bytes_cached"] <= capacity
    assert len(opened.distant.describe()["files"]) == 5
    await opened.aclose()
