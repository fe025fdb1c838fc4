"""`vmount snapshots VM`: the snapshots of a machine, as the tree that they are."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from vmount import interruption
from vmount.commands.connection_options import add_connection_arguments, settings_from
from vmount.errors import Exit, printable
from vmount.tree.info import as_json
from vmount.vsphere.inventory import find_vm
from vmount.vsphere.session import connected

if TYPE_CHECKING:
    import argparse

    from vmount.vsphere.settings import ConnectionSettings
    from vmount.vsphere.snapshot_tree import SnapshotNode
    from vmount.vsphere.virtual_machine import VirtualMachine

WIDEST = 10_000
"""Columns: names are never cut; the terminal wraps them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "vm", metavar="VM", help="moRef, name, UUID, IP address, DNS name or inventory path"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    add_connection_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show the tree."""
    settings = settings_from(arguments).with_password_read()
    vm = interruption.run(_find, settings, arguments.vm)
    if arguments.json:
        print(as_json([_described(node) for node in vm.snapshots]), end="")
        return Exit.OK
    tree = Tree(_title(vm), guide_style="")
    branches = {"": tree}
    for node in vm.snapshots:  # parents before children
        above = node.path.removesuffix(node.name).removesuffix("/")
        branches[node.path] = branches[above].add(_line(node))
    Console(soft_wrap=True, width=WIDEST).print(tree)
    return Exit.OK


async def _find(settings: ConnectionSettings, wanted: str) -> VirtualMachine:
    async with connected(settings) as session:
        return await find_vm(session, wanted)


def _title(vm: VirtualMachine) -> Text:
    none = "" if vm.snapshots else ": no snapshots"
    return Text(printable(f"{vm.moref} {vm.path}{none}"))


def _line(node: SnapshotNode) -> Text:
    marks = ["quiesced"] * node.is_quiesced + ["current"] * node.is_current
    words = f"{node.moref}  {node.created:%Y-%m-%d %H:%M:%S}  {node.name}"
    if marks:
        words += f"  ({', '.join(marks)})"
    if node.description:
        words += f"  {' '.join(node.description.split())}"
    return Text(printable(words))


def _described(node: SnapshotNode) -> dict[str, Any]:
    return {**asdict(node), "created": node.created.isoformat()}
