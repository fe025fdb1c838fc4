"""`vmount info SOURCE...`: disks and volumes, without mounting."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from vmount.api import open_disks
from vmount.errors import Exit
from vmount.info import as_json

if TYPE_CHECKING:
    import argparse


WIDTH_OF_FILES = 160
"""Columns of tables that go to a file or a pipe."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("sources", nargs="+", metavar="SOURCE")
    parser.add_argument("--json", action="store_true", help="as JSON, as info.json in a mount")
    parser.add_argument(
        "--force", action="store_true", help="open a snapshot whose parent has changed since"
    )


def run(arguments: argparse.Namespace) -> int:
    """Show what is there."""
    with open_disks(*arguments.sources, force=arguments.force) as disks:
        info = disks.info()
    if arguments.json:
        print(as_json(info), end="")
    else:
        _print_tables(info)
    return Exit.OK


def _print_tables(info: dict[str, Any]) -> None:
    # Only this needs rich, and it takes a while to import.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = None if sys.stdout.isatty() else WIDTH_OF_FILES
    console = Console(highlight=False, width=width)

    def table(title: str, *columns: str) -> Table:
        made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        for column in columns:
            made.add_column(
                column, justify="right" if column == "size" else "left", overflow="fold"
            )
        return made

    disks = table("Disks", "name", "size", "format", "chain", "transport", "source")
    for disk in info["disks"]:
        links = len(disk["chain"])
        disks.add_row(
            disk["name"],
            human_size(disk["size"]),
            disk["format"],
            f"{links} files" if links > 1 else "",
            disk["transport"]["used"] or "",
            Text(disk["problem"] or disk["source"], style="red" if disk["problem"] else ""),
        )
    volumes = table("Volumes", "name", "size", "type", "label", "partition", "uuid", "remark")
    for volume in info["volumes"]:
        partition = volume["partition"] or {}
        volumes.add_row(
            volume["name"],
            human_size(volume["size"]),
            volume["fstype"] or "?",
            Text(volume["label"]),
            Text(partition.get("name") or partition.get("type_name") or ""),
            volume["uuid"],
            Text(volume["problem"] or "", style="yellow"),
        )
    console.print(disks)
    console.print(volumes)
    for warning in info["warnings"]:
        console.print(Text(f"warning: {warning}", style="yellow"))


def human_size(size: int) -> str:
    """Return a size with a binary unit: "1.5 GiB"."""
    value, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return (
        f"{value:.0f} {units[0]}" if value >= 100 or units[0] == "B" else f"{value:.1f} {units[0]}"
    )
