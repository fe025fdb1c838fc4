"""Test data that others publish, fetched when it is asked for: from the source packages of Python projects.

What is fetched is checked against its known SHA-256 and kept in the user's cache. None of it is part of the
program, nor of its repository.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

LIMIT = 300


def python_sdist(name: str, version: str, sha256: str) -> Path:
    """Return a source package of the Python Package Index. Skips the test if it cannot be fetched."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vmount-tests"
    kept = cache / f"{name}-{version}.tar.gz"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            command += ["--no-binary", ":all:", "--dest", folder, f"{name}=={version}"]
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=LIMIT, check=False
            )
            found = list(Path(folder).glob("*.tar.gz"))
            if done.returncode or not found:
                pytest.skip(f"{name} {version} cannot be fetched: {done.stderr.strip()[-200:]}")
            found[0].replace(kept)
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == sha256, f"{kept} is another file"
    return kept


def member_of(archive: Path, ending: str) -> bytes:
    """Return the one file of an archive whose name ends like this."""
    with tarfile.open(archive) as tar:
        (found,) = (item for item in tar.getmembers() if item.name.endswith(ending))
        stream = tar.extractfile(found)
        assert stream is not None
        return stream.read()
