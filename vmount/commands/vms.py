"""`vmount vms [PATTERN]`: the machines of a vCenter or ESXi host."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vmount import interruption
from vmount.commands.connection_options import add_connection_arguments, settings_from
from vmount.commands.console import Column, Row, human_size, print_table
from vmount.errors import Exit
from vmount.tree.info import as_json
from vmount.vsphere.inventory import Entry, list_machines
from vmount.vsphere.session import connected
from vmount.vsphere.snapshot_tree import Power

if TYPE_CHECKING:
    import argparse

    from vmount.vsphere.settings import ConnectionSettings

COLUMNS = (
    Column("moref"),
    Column("path"),
    Column("power"),
    Column("guest", drop=3),
    Column("address", drop=1),
    Column("host", drop=2),
    Column("size", right=True, drop=4),
)
POWER = {Power.ON: "on", Power.OFF: "off", Power.SUSPENDED: "suspended"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "pattern",
        nargs="?",
        metavar="PATTERN",
        help="part of a name, or a pattern (* ? []) for a whole name, or with / a path in the inventory",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    add_connection_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """List the machines."""
    settings = settings_from(arguments).with_password_read()
    entries = interruption.run(_list, settings, arguments.pattern)
    if arguments.json:
        print(as_json([_described(entry) for entry in entries]), end="")
        return Exit.OK
    print_table(COLUMNS, [Row(_cells(entry)) for entry in entries])
    return Exit.OK


def _cells(entry: Entry) -> tuple[str, ...]:
    power = "template" if entry.is_template else POWER[entry.power]
    return (
        entry.moref,
        entry.path,
        power,
        entry.guest,
        entry.address,
        entry.host,
        human_size(entry.size),
    )


async def _list(settings: ConnectionSettings, pattern: str | None) -> list[Entry]:
    async with connected(settings) as session:
        return await list_machines(session, pattern)


def _described(entry: Entry) -> dict[str, Any]:
    return {**asdict(entry), "power": POWER[entry.power]}
