"""From what the user names to open disks.

The text decides which kind of source opens it (`registry.recognise`); what a file is, its content decides.
What only some kinds need is imported when there is one: that takes as long as many a command.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.errors import SourceError
from vmount.sources.base import NotASource, Opening
from vmount.sources.registry import forms, recognise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vmount.disks.disk import Disk


async def open_sources(sources: Sequence[str], opening: Opening) -> list[Disk]:
    """Open every disk of every source, in order. `opening.stack` closes them.

    A disk of a VM that cannot be opened is in the result, with its problem, as long as another one can be.
    Raises SourceError for a source that does not exist or is no disk.
    """
    disks: list[Disk] = []
    for source in sources:
        try:
            disks += await recognise(source).open(source, opening)
        except NotASource as error:
            raise SourceError(error.message, remedy=f"SOURCE must be {forms()}") from error
    return disks


def absolute(source: str) -> str:
    """Name a file by its whole path, for a process with another working directory; others stay as they are."""
    return os.path.abspath(source) if Path(source).exists() else source  # noqa: PTH100 (links stay)
