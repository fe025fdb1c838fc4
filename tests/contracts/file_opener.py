"""What every FileOpener does. A test module inherits FileOpenerContract and gives two fixtures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from vmount.parsers.vmdk.opener import FileOpener

FILES = {
    "web/web.vmdk": b"descriptor " * 10,
    "web/web-flat.vmdk": bytes(range(256)) * 1024,
    "web/notes.txt": b"beside the descriptor",
    "base/base.vmdk": b"the parent",
    "base/secrets.txt": b"not a disk",
}
"""What the fixture `opener` can reach, below one folder."""


class FileOpenerContract:
    """Fixtures wanted: `opener`, and `names`, the name that it takes for each path in FILES."""

    @pytest.mark.parametrize("path", FILES)
    async def test_a_file_that_the_user_names(
        self, opener: FileOpener, names: Mapping[str, str], path: str
    ) -> None:
        opened = await opener.open(names[path], None)
        assert opened.source.size == len(FILES[path])
        assert bytes(await opened.source.read(0, opened.source.size)) == FILES[path]

    @pytest.mark.parametrize(
        ("name", "path"),
        [
            ("web-flat.vmdk", "web/web-flat.vmdk"),
            ("notes.txt", "web/notes.txt"),
            ("../base/base.vmdk", "base/base.vmdk"),
            ("..\\base\\base.vmdk", "base/base.vmdk"),
            ("/vmfs/volumes/elsewhere/base/base.vmdk", "base/base.vmdk"),
            ("C:\\machines\\web\\web-flat.vmdk", "web/web-flat.vmdk"),
        ],
    )
    async def test_a_file_that_a_descriptor_names(
        self, opener: FileOpener, names: Mapping[str, str], name: str, path: str
    ) -> None:
        descriptor = await opener.open(names["web/web.vmdk"], None)
        opened = await opener.open(name, descriptor.name)
        assert bytes(await opened.source.read(0, opened.source.size)) == FILES[path]
        # The name that it gives is one that it takes: the next file of a chain is near it.
        again = await opener.open(opened.name, None)
        assert again.source.size == opened.source.size

    @pytest.mark.parametrize("name", ["none.vmdk", "../none/none.vmdk", "/none/none.vmdk"])
    async def test_a_file_that_does_not_exist(
        self, opener: FileOpener, names: Mapping[str, str], name: str
    ) -> None:
        descriptor = await opener.open(names["web/web.vmdk"], None)
        with pytest.raises(OSError, match="none"):
            await opener.open(name, descriptor.name)

    @pytest.mark.parametrize("name", ["../base/secrets.txt", "../../../../../../../etc/passwd"])
    async def test_a_descriptor_reaches_its_folder_and_disks_only(
        self, opener: FileOpener, names: Mapping[str, str], name: str
    ) -> None:
        descriptor = await opener.open(names["web/web.vmdk"], None)
        with pytest.raises(OSError, match=r"secrets|passwd"):
            await opener.open(name, descriptor.name)
