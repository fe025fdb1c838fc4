"""Imports point downwards, and modules stay short."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import pytest

from tests.support.paths import ROOT

LAYERS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("commands",),
    ("jobs", "doctor"),
    ("api",),
    ("mounting",),
    ("tree",),
    ("disk_set",),
    ("guest",),
    ("volumes",),
    ("sources",),
    ("transports",),
    ("options",),
    ("datastores",),
    ("disks",),
    ("cache",),
    ("backends",),
    ("vsphere",),
    ("runtime", "interruption"),
    ("blocks",),
    ("state", "logs", "configuration"),
    ("sandbox",),
    ("errors",),
)
"""The modules and packages of vmount, highest first. A module may import what stands in a lower line,
and its neighbours in its own. vmount/__init__.py is below all of them."""

FOREIGN_TO_PARSERS = {"trio", "pyfuse3", "pyVmomi", "pyVim", "tests", "fixtures", "bench"}
FOREIGN_TO_VMOUNT = {"tests", "fixtures", "bench"}
LONGEST = 500

_LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def modules(*packages: str) -> list[Path]:
    found = [path for package in packages for path in sorted((ROOT / package).rglob("*.py"))]
    assert found
    return found


def dotted(path: Path) -> str:
    """Return a module's dotted name. The folder parsers/ is installed as vmount.parsers."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] == "parsers":
        parts = ("vmount", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def imports(path: Path) -> set[str]:
    """Return the dotted names that a module imports, wherever in it; names in a package as well."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports are not used here"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if is_module(whole) else node.module)
    return found


def roots(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def in_vmount(name: str) -> bool:
    return name.partition(".")[0] == "vmount"


def in_parsers(name: str) -> bool:
    return name == "vmount.parsers" or name.startswith("vmount.parsers.")


def level(name: str) -> int:
    """Return the line of LAYERS in which a module of vmount stands."""
    part = name.split(".")[1]
    assert part in _LEVEL, (
        f"vmount.{part} has no layer: add it to LAYERS in tests/unit/test_layers.py"
    )
    return _LEVEL[part]


@pytest.mark.parametrize("path", modules("parsers"), ids=dotted)
def test_parsers_know_neither_the_event_loop_nor_the_program(path: Path) -> None:
    names = imports(path)
    assert not roots(names) & FOREIGN_TO_PARSERS
    assert [name for name in names if in_vmount(name) and not in_parsers(name)] == []


@pytest.mark.parametrize("path", modules("vmount"), ids=dotted)
def test_imports_point_downwards(path: Path) -> None:
    names = imports(path)
    assert not roots(names) & FOREIGN_TO_VMOUNT
    known = {dotted(module) for module in modules("vmount")} - {"vmount"}
    own = dotted(path)
    own_level = len(LAYERS) if own == "vmount" else level(own)
    upwards = {name for name in names & known if level(name) < own_level}
    assert not upwards, f"{own} imports from above: {sorted(upwards)}"


def test_no_module_depends_on_itself() -> None:
    paths = modules("vmount", "parsers")
    known = {dotted(path) for path in paths}
    graph = {dotted(path): imports(path) & known - {dotted(path)} for path in paths}
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    "path", modules("vmount", "parsers", "fixtures", "bench", "tests"), ids=dotted
)
def test_modules_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST
