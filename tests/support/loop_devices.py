"""Loop devices standing for LUNs and attached disks. They take root."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def attached(image: Path, *options: str, read_only: bool = True) -> Iterator[Path]:
    """Yield a loop device over an image, itself read and written past the page cache."""
    mode = ["--read-only"] if read_only else []
    command = ["losetup", "--find", "--show", "--direct-io=on", *mode, *options, str(image)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    device = Path(done.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", str(device)], check=True)
