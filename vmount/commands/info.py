"""`vmount info SOURCE...`: disks and volumes, without mounting."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from vmount import interruption
from vmount.api import open_disks
from vmount.commands.confinement import confine_command
from vmount.commands.console import (
    Column,
    Row,
    human_size,
    print_blocks,
    print_table,
    print_wrapped,
)
from vmount.commands.options import add_source_arguments, open_options
from vmount.disks.remote import exports_of
from vmount.errors import Exit, SourceError, explain
from vmount.sources.nbd import is_nbd
from vmount.tree.info import as_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from vmount.backends.nbd.backend import ExportInfo


DISKS = (
    Column("name"),
    Column("size", right=True),
    Column("format", drop=1),
    Column("chain", drop=3),
    Column("transport", drop=2),
    Column("source"),
)
VOLUMES = (
    Column("name"),
    Column("size", right=True),
    Column("type"),
    Column("in guest"),
    Column("label", drop=1),
    Column("partition", drop=2),
    Column("uuid", drop=3),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("sources", nargs="+", metavar="SOURCE")
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show everything, and why the other transports do not read a disk",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, as in a mount's info.json")
    add_source_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show what is there."""
    options = open_options(arguments, *arguments.sources)
    confine_command(arguments, arguments.sources, options)
    # Its warnings are part of what is shown.
    logging.getLogger("vmount.disk_set").setLevel(logging.ERROR)
    if len(arguments.sources) == 1 and is_nbd(arguments.sources[0]):
        try:
            exports = interruption.run(exports_of, arguments.sources[0], options.remote)
        except OSError as error:
            raise SourceError(explain(error)) from error
        if [export.name for export in exports] not in ([], [""]):
            return _say_exports(exports, as_json_text=arguments.json)
    with open_disks(*arguments.sources, options=options, state_dir=arguments.state_dir) as disks:
        info = disks.info()
    if arguments.json:
        print(as_json(info), end="")
    else:
        _print(info, verbose=arguments.verbose)
    return Exit.OK


def _say_exports(exports: Sequence[ExportInfo], *, as_json_text: bool) -> int:
    if as_json_text:
        print(as_json({"exports": [export._asdict() for export in exports]}), end="")
        return Exit.OK
    rows = [
        Row(
            (
                export.name or "(no name)",
                "" if export.size is None else human_size(export.size),
                export.description,
            )
        )
        for export in exports
    ]
    columns = (Column("name"), Column("size", right=True), Column("description", drop=1))
    print_table(columns, rows, title="Exports of the server (add a name to the URI)")
    return Exit.OK


def _print(info: dict[str, Any], *, verbose: bool) -> None:
    for machine in info["machines"]:
        print_wrapped(_machine(machine))
    show = _show_blocks if verbose else print_table
    show(DISKS, [_disk(disk, verbose=verbose) for disk in info["disks"]], title="Disks")
    print()
    show(VOLUMES, [_volume(volume) for volume in info["volumes"]], title="Volumes")
    if info["guest"] is not None:
        print()
        for system in (info["guest"], *info["guest"]["others"]):
            print_wrapped(f"guest: {_system(system)}")
    for warning in _unsaid(info):
        print_wrapped(f"warning: {warning}")


def _show_blocks(columns: Sequence[Column], rows: Sequence[Row], *, title: str) -> None:
    print(title)
    print_blocks([column.title for column in columns], rows)


def _disk(disk: dict[str, Any], *, verbose: bool) -> Row:
    links = len(disk["chain"])
    cells = (
        disk["name"],
        human_size(disk["size"]),
        disk["format"],
        f"{links} files" if links > 1 else "",
        disk["transport"]["used"] or "",
        disk["source"],
    )
    notes = [] if disk["problem"] is None else [f"cannot be read: {disk['problem']}"]
    if verbose:
        notes += [
            f"not by {refusal['name']}: {refusal['reason']}"
            for refusal in disk["transport"]["refused"]
        ]
    return Row(cells, notes)


def _volume(volume: dict[str, Any]) -> Row:
    partition = volume["partition"] or {}
    cells = (
        volume["name"],
        human_size(volume["size"]),
        volume["fstype"] or "unknown",
        _place(volume),
        volume["label"],
        partition.get("name") or partition.get("type_name") or "",
        volume["uuid"],
    )
    return Row(cells, [] if volume["problem"] is None else [volume["problem"]])


def _unsaid(info: dict[str, Any]) -> list[str]:
    """Return the warnings that no line above says."""
    said = {f"{disk['name']}: {disk['problem']}" for disk in info["disks"]}
    return [warning for warning in info["warnings"] if warning not in said]


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
