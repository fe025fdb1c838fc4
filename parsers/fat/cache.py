"""The directories that were read last, so that a look-up does not read its directory each time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from vmount.parsers.lru import Lru

if TYPE_CHECKING:
    from collections.abc import Sequence

WEIGHT_KEPT = 200_000
"""Files in all directories that are kept: some 100 MiB at worst. One larger than that is not kept; exFAT's keeps one
such directory beside them."""

DIRECTORIES_KEPT = 64
"""All of them are looked through for a file whose number alone is known."""


class _Directory(Protocol):
    @property
    def files(self) -> Sequence[Any]: ...


D = TypeVar("D", bound=_Directory)


def directory_cache(_kind: type[D]) -> Lru[int, D]:
    """Return a cache of directories by number that keeps to the bounds above."""
    return Lru(WEIGHT_KEPT, _weight)


def _weight(directory: _Directory) -> int:
    # A small one weighs as much as its place.
    return max(len(directory.files), WEIGHT_KEPT // DIRECTORIES_KEPT)
