"""A real nbdkit with a plugin that stands for nbdkit-vddk-plugin, and a folder that stands for VDDK."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parent / "plugin.c"
WRAPPER = """#!/bin/bash
words=()
for word; do [ "$word" = vddk ] && word={plugin}; words+=("$word"); done
exec {nbdkit} "${{words[@]}}"
"""


@dataclass(frozen=True)
class Vddk:
    """The stub, and how a process comes to use it."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What makes vmount find it."""
        return {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "VMOUNT_VDDK_LIBDIR": str(self.folder),
        }

    def reset(self) -> None:
        """Forget what was served and expected."""
        for file in (self.folder / "stub").iterdir():
            file.unlink()

    def serve(self, disks: Mapping[str, Path]) -> None:
        """Have raw files served for VMDKs, by their names in datastores."""
        lines = [f"{name}\t{path}\n" for name, path in disks.items()]
        (self.folder / "stub/disks").write_text("".join(lines), "utf-8")

    def expect(self, **values: str) -> None:
        """Have connections refused unless these parameters have these values."""
        for name, value in values.items():
            (self.folder / "stub" / name).write_text(value + "\n", "utf-8")


def build_vddk(folder: Path) -> Vddk:
    """Build the stub. Needs gcc, nbdkit and nbdkit-plugin-dev."""
    plugin = folder / "nbdkit-vddk-plugin.so"
    subprocess.run(
        ["gcc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", plugin, SOURCE], check=True
    )
    for name in ("bin", "lib64", "stub"):
        (folder / name).mkdir()
    (folder / "lib64/libvixDiskLib.so.8").touch()
    wrapper = folder / "bin/nbdkit"
    wrapper.write_text(WRAPPER.format(plugin=plugin, nbdkit=shutil.which("nbdkit")))
    wrapper.chmod(0o755)
    return Vddk(folder)
