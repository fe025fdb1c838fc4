"""A datastore that is a folder here, and the same one behind /folder of a simulated vCenter."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fixtures import vmdk
from tests.system.vsphere.conftest import PASSWORD, USER, Vcenter, certificate, vcenter, vcsim
from vmount.backends.https.client import HttpsClient
from vmount.datastores.base import DatastoreBackend
from vmount.datastores.folder import FolderBackend
from vmount.datastores.path import folder_url
from vmount.datastores.web import WebBackend
from vmount.runtime import TrioRuntime

__all__ = ["certificate", "vcenter", "vcsim"]

STORE = "LocalDS_0"


@dataclass(frozen=True)
class Places:
    """The ways to one datastore."""

    folder: Path
    """Where its files are put."""
    open: dict[str, Callable[[str], DatastoreBackend]]
    """By name of the transport: returns the place, given the datastore's name."""


def ways_to(vcenter: Vcenter, folder: Path) -> dict[str, Callable[[str], DatastoreBackend]]:
    """Return the places that have a datastore's files, given its name. `folder` is where they are."""
    token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    client = HttpsClient(
        headers={"Authorization": f"Basic {token}"}, ssl_context=vcenter.trusting()
    )
    base = f"https://{vcenter.host}:{vcenter.port}"

    def at_folder(name: str) -> DatastoreBackend:
        return FolderBackend({name: folder}, TrioRuntime())

    def on_the_web(_: str) -> DatastoreBackend:
        return WebBackend(client, lambda path: folder_url(base, path, "DC0", via_vcenter=True))

    return {"file": at_folder, "https": on_the_web}


@pytest.fixture
async def places(vcenter: Vcenter) -> AsyncIterator[Places]:
    folder = vcenter.datastores[STORE]
    found = ways_to(vcenter, folder)
    yield Places(folder, found)
    await found["https"](STORE).aclose()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> vmdk.Disk:
    """A flat disk."""
    folder = tmp_path_factory.mktemp("flat")
    flat = vmdk.flat_image(folder / "disk.raw", (3 << 20) + 512, [(0, 200_000), (1 << 20, 9999)], 4)
    path = folder / "web.vmdk"
    vmdk.run(
        *("qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=monolithicFlat"),
        *(flat, path),
    )
    return vmdk.Disk(path, flat)


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> vmdk.Disk:
    """Five links."""
    return vmdk.build_chain(tmp_path_factory.mktemp("chain"), 5)
