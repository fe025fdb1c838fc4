"""`vmount info SOURCE...`: disks and volumes, without mounting."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import trio

from vmount.api import open_disks
from vmount.commands.options import add_source_arguments, open_options
from vmount.disks.remote import exports_of
from vmount.errors import Exit, SourceError, explain, printable
from vmount.sources.nbd import is_nbd
from vmount.tree.info import as_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from vmount.backends.nbd.backend import ExportInfo


WIDTH_OF_FILES = 160
"""Columns of tables that go to a file or a pipe."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("sources", nargs="+", metavar="SOURCE")
    parser.add_argument("--json", action="store_true", help="as JSON, as info.json in a mount")
    add_source_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show what is there."""
    options = open_options(arguments, *arguments.sources)
    # Its warnings are part of what is shown.
    logging.getLogger("vmount.disk_set").setLevel(logging.ERROR)
    if len(arguments.sources) == 1 and is_nbd(arguments.sources[0]):
        try:
            exports = trio.run(exports_of, arguments.sources[0], options.remote)
        except OSError as error:
            raise SourceError(explain(error)) from error
        if [export.name for export in exports] not in ([], [""]):
            return _say_exports(exports, as_json_text=arguments.json)
    with open_disks(*arguments.sources, options=options, state_dir=arguments.state_dir) as disks:
        info = disks.info()
    if arguments.json:
        print(as_json(info), end="")
    else:
        _print_tables(info)
    return Exit.OK


def _say_exports(exports: Sequence[ExportInfo], *, as_json_text: bool) -> int:
    if as_json_text:
        print(as_json({"exports": [export._asdict() for export in exports]}), end="")
        return Exit.OK
    print("the server exports (name one at the end of the URI):")
    for export in exports:
        size = "" if export.size is None else human_size(export.size)
        print(f"  {export.name or '(no name)'}  {size}  {export.description}".rstrip())
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

    for machine in info["machines"]:
        console.print(Text(printable(_machine(machine))))
    disks = table("Disks", "name", "size", "format", "chain", "transport", "source")
    for disk in info["disks"]:
        links = len(disk["chain"])
        disks.add_row(
            disk["name"],
            human_size(disk["size"]),
            disk["format"],
            f"{links} files" if links > 1 else "",
            disk["transport"]["used"] or "",
            Text(
                printable(disk["problem"] or disk["source"]), style="red" if disk["problem"] else ""
            ),
        )
        for refusal in disk["transport"]["refused"]:
            text = f"not by {refusal['name']}: {refusal['reason']}"
            disks.add_row("", "", "", "", "", Text(printable(text), style="dim"))
    columns = ("name", "size", "type", "guest's", "label", "partition", "uuid", "remark")
    volumes = table("Volumes", *columns)
    for volume in info["volumes"]:
        partition = volume["partition"] or {}
        volumes.add_row(
            volume["name"],
            human_size(volume["size"]),
            volume["fstype"] or "?",
            Text(printable(_place(volume))),
            Text(printable(volume["label"])),
            Text(printable(partition.get("name") or partition.get("type_name") or "")),
            volume["uuid"],
            Text(printable(volume["problem"] or ""), style="yellow"),
        )
    console.print(disks)
    console.print(volumes)
    if info["guest"] is not None:
        for system in (info["guest"], *info["guest"]["others"]):
            console.print(Text(printable(f"guest: {_system(system)}")))
    for warning in info["warnings"]:
        console.print(Text(printable(f"warning: {warning}"), style="yellow"))


def _machine(machine: dict[str, Any]) -> str:
    snapshot = "no snapshot"
    if machine["snapshot"] is not None:
        snapshot = f"snapshot {machine['snapshot']} ({machine['snapshot_name']})"
    lock = ", locked against relocation" if machine["locked"] else ""
    return (
        f"{machine['name']} ({machine['moref']}) at {machine['server']}: "
        f"{snapshot}, {machine['consistency']}{lock}"
    )


def _place(volume: dict[str, Any]) -> str:
    """Return where the guest has a volume; a letter that it does not know of is in brackets."""
    places = list(volume["guest_mount_points"])
    if volume["letter_assigned"]:
        places.append(f"({volume['letter']}:)")
    return ", ".join(places)


def _system(system: dict[str, Any]) -> str:
    facts = [system["name"]]
    if system["build"]:
        facts.append(f"build {system['build']}")
    if system["bits"]:
        facts.append(f"{system['bits']} bits")
    return f"{', '.join(facts)}, {system['system_folder']} on {system['volume']}"


def human_size(size: int) -> str:
    """Return a size with a binary unit: "1.5 GiB"."""
    value, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return (
        f"{value:.0f} {units[0]}" if value >= 100 or units[0] == "B" else f"{value:.1f} {units[0]}"
    )
