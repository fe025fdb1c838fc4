"""Write the tables of the documentation that come from the code, between their markers.

A page holds `<!-- begin NAME -->` and `<!-- end NAME -->`; what lies between is replaced. Run by `make tables`;
a test says when a page is out of date.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.transports.registry import all_modes
from vmount.vsphere.privileges import FOR_LOCK, FOR_SNAPSHOT, Privilege

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).parents[1]


def transports() -> str:
    """Return a row for each transport."""
    rows = ["| transport | what it needs | remarks |", "|---|---|---|"]
    seen: dict[tuple[str, str], list[str]] = {}
    for mode in all_modes():
        seen.setdefault((mode.needs, mode.remarks), []).append(f"`{mode.name}`")
    rows += [
        f"| {', '.join(names)} | {needs} | {remarks} |" for (needs, remarks), names in seen.items()
    ]
    return "\n".join([*rows, "| any other name | a program of yours, see below | |"])


def privileges() -> str:
    """Return a row for each set of privileges."""
    sets: dict[tuple[Privilege, ...], list[str]] = {}
    for mode in all_modes():
        if mode.privileges:
            sets.setdefault(mode.privileges, []).append(mode.name)
    purposes: dict[tuple[Privilege, ...], str] = {FOR_SNAPSHOT: "the snapshot of a VM that runs"}
    for needed, names in sets.items():
        what = "transport" if len(names) == 1 else "transports"
        purposes[needed] = f"the {what} {' and '.join(names)}"
    purposes[FOR_LOCK] = "the relocation lock; without them `--lock auto` warns and goes on"
    rows = ["| privilege | on | for |", "|---|---|---|"]
    for needed, purpose in purposes.items():
        ids = ", ".join(f"{one.id} ({one.title.partition(': ')[2]})" for one in needed)
        rows.append(f"| {ids} | {needed[0].where.value} | {purpose} |")
    return "\n".join(rows)


TABLES: Mapping[str, Callable[[], str]] = {"transports": transports, "privileges": privileges}


def pages() -> Iterator[Path]:
    """Yield the pages that may hold tables."""
    yield from sorted(ROOT.glob("*.md"))
    yield from sorted((ROOT / "docs").rglob("*.md"))


def filled_in(text: str) -> str:
    """Return a page with its tables as the code has them."""
    for name, table in TABLES.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        if begin in text:
            pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
            whole = f"{begin}\n{table()}\n{end}"
            text = pattern.sub(lambda _, whole=whole: whole, text)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    for page in pages():
        old = page.read_text()
        if (new := filled_in(old)) != old:
            page.write_text(new)
            print(f"{page.relative_to(ROOT)}: tables written")
