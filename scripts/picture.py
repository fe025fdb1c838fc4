"""Draw docs/session.svg, the picture of the README, from the real program: python -m scripts.picture.

It makes the virtual machine of `make demo` in a scratch folder and runs the commands shown there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from fixtures.demo import build

PICTURE = Path(__file__).parents[1] / "docs" / "session.svg"
WIDTH = 118
COMMANDS = [
    "vmount info demo.vmx",
    "vmount demo.vmx mnt",
    "ls -l mnt/volumes/*/",
    "vmount umount mnt",
    "vmount cp --verify demo.vmx 'scsi0-1-p1/home/demo/*.txt' restored/",
    "vmount find demo.vmx '*.raw' --larger 1M",
]


def main() -> None:
    """Run the commands and draw what they print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder)
        (folder / "mnt").mkdir()
        (folder / "restored").mkdir()
        console = Console(record=True, width=WIDTH, file=Path(os.devnull).open("w"))  # noqa: SIM115
        for command in COMMANDS:
            console.print(Text("$ ", "bold green") + Text(command, "bold"))
            console.print(Text.from_ansi(_run(command, folder)))
        PICTURE.write_text(console.export_svg(title="vmount"))


def _run(command: str, folder: Path) -> str:
    program = folder / "bin" / "vmount"
    if not program.exists():
        program.parent.mkdir()
        root = Path(__file__).parents[1]
        program.write_text(f'#!/bin/sh\nPYTHONPATH={root} exec {sys.executable} -m vmount "$@"\n')
        program.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "COLUMNS": str(WIDTH),
        "FORCE_COLOR": "1",
        "TZ": "UTC",
    }
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return done.stdout.rstrip("\n")


if __name__ == "__main__":
    main()
