"""`vmount vms [PATTERN]`: the machines of a vCenter or ESXi host."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import trio
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from vmount.commands.connection_options import add_connection_arguments, settings_from
from vmount.errors import Exit, printable
from vmount.tree.info import as_json
from vmount.vsphere.inventory import Entry, list_machines
from vmount.vsphere.session import connected
from vmount.vsphere.snapshot_tree import Power

if TYPE_CHECKING:
    import argparse

    from vmount.vsphere.settings import ConnectionSettings

WIDEST = 10_000
"""Columns: names are never cut; the terminal wraps them."""
POWER = {Power.ON: "on", Power.OFF: "off", Power.SUSPENDED: "suspended"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "pattern",
        nargs="?",
        metavar="PATTERN",
        help="part of a name, or with * ? [] a whole name; with / a path in the inventory",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    add_connection_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """List the machines."""
    settings = settings_from(arguments).with_password_read()
    entries = trio.run(_list, settings, arguments.pattern)
    if arguments.json:
        print(as_json([_described(entry) for entry in entries]), end="")
        return Exit.OK
    table = Table("moref", "path", "power", "guest", "address", "host", "size", box=None)
    table.pad_edge = False
    table.columns[-1].justify = "right"
    for entry in entries:
        power = "template" if entry.is_template else POWER[entry.power]
        words = (entry.moref, entry.path, power, entry.guest, entry.address, entry.host)
        table.add_row(*(Text(printable(word)) for word in words), Text(decimal(entry.size)))
    Console(soft_wrap=True, width=WIDEST).print(table)
    return Exit.OK


async def _list(settings: ConnectionSettings, pattern: str | None) -> list[Entry]:
    async with connected(settings) as session:
        return await list_machines(session, pattern)


def _described(entry: Entry) -> dict[str, Any]:
    return {**asdict(entry), "power": POWER[entry.power]}
