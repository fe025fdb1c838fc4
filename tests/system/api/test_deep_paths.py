"""Who walks down a deep tree by its paths does not pay for the whole path at each level."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmount.api.bridge import InlineBridge
from vmount.api.files import Files
from vmount.api.lookup import Lookup
from vmount.tree.tree import ROOT, Directory, Tree

if TYPE_CHECKING:
    from vmount.parsers.model import Attrs

DEPTH = 300


class CountingTree(Tree):
    """Counts what is looked up."""

    lookups = 0

    async def lookup(self, parent: int, name: bytes) -> tuple[int, Attrs] | None:
        self.lookups += 1
        return await super().lookup(parent, name)


def test_a_walk_by_paths_is_linear_in_depth() -> None:
    tree = CountingTree()
    number = ROOT
    numbers = [number := tree.add(number, b"d", Directory()) for _ in range(DEPTH)]
    files = Files(Lookup(tree, InlineBridge()))
    path = ""
    for expected in numbers:
        path += "/d"
        assert next(iter(files.below(path))).number == expected
    assert tree.lookups < 10 * DEPTH
