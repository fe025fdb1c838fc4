"""The commands load nothing but Python and the declared dependencies; `doctor` lists what is optional."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUN = """
import json, sys
from vmount.cli import main
code = main(sys.argv[1:])
sys.stdout.flush()
origins = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
print("\\n" + json.dumps(origins), file=sys.stderr)
"""
COMMANDS = [
    ["info", "{image}"],
    ["ls", "{image}"],
    ["find", "{image}"],
    ["cp", "{image}", "disk0", "{folder}/copy"],
    ["diff", "{image}", "{image}"],
    ["status"],
    ["doctor"],
    ["cleanup", "--dry-run"],
]


def name_of(requirement: str) -> str:
    """Return the name of the distribution that a requirement asks for."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement)[0]).lower()


def closure(requirements: list[str]) -> set[str]:
    """Return distributions and all that they require without extras."""
    found: set[str] = set()
    waiting = [name_of(requirement) for requirement in requirements]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        waiting += [name_of(one) for one in needed if "extra ==" not in one]
    return found


def top_levels(requirements: list[str]) -> set[str]:
    """Return the modules that these distributions install."""
    wanted = closure(requirements)
    owners = importlib.metadata.packages_distributions()
    return {
        module for module, names in owners.items() if {name_of(name) for name in names} & wanted
    }


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "x.img"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", path, "4M"], check=True, capture_output=True)
    return path


@pytest.mark.requirement("R60")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_command_loads_its_declared_dependencies_only(
    command: list[str], image: Path, tmp_path: Path
) -> None:
    words = [word.format(image=image, folder=tmp_path) for word in command]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"XDG_STATE_HOME": str(tmp_path)},
    )
    origins = json.loads(done.stderr.splitlines()[-1])
    installed = {
        name.partition(".")[0]
        for name, place in origins.items()
        if place is not None and "site-packages" in place
    }
    # What an editable installation loads when Python starts is no part of the program.
    foreign = {name for name in installed if not name.startswith(("__editable__", "_distutils"))}
    assert foreign - {"vmount", "a1_coverage", "coverage"} <= top_levels(PROJECT["dependencies"])


@pytest.mark.requirement("R60")
def test_everything_that_the_code_imports_is_declared() -> None:
    names = set()
    for path in [*(ROOT / "vmount").rglob("*.py"), *(ROOT / "parsers").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                names.add(node.module.partition(".")[0])
    optional = PROJECT["optional-dependencies"]
    declared = top_levels([*PROJECT["dependencies"], *optional["vsphere"], *optional["keyring"]])
    assert names - set(sys.stdlib_module_names) - {"vmount", "keyring"} <= declared


@pytest.mark.requirement("R60")
def test_doctor_lists_every_dependency_and_what_is_optional() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vmount", "doctor", "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    listed = {name_of(item["name"]) for item in json.loads(done.stdout)}
    wanted = {name_of(one) for one in PROJECT["dependencies"]}
    wanted |= {
        name_of(one)
        for name in ("vsphere", "keyring")
        for one in PROJECT["optional-dependencies"][name]
    }
    assert wanted <= listed
    assert {"nbdkit", "fusermount3"} <= listed
