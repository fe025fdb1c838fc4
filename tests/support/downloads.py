"""Test data that others publish, fetched when it is asked for: from the source packages of Python projects.

What is fetched is checked against its known SHA-256 and kept in the user's cache. None of it is part of the
program, nor of its repository.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

LIMIT = 300


def python_sdist(name: str, version: str, sha256: str) -> Path:
    """Return a source package of the Python Package Index. Skips the test if it cannot be fetched."""
    cache = _cache()
    kept = cache / f"{name}-{version}.tar.gz"
    if not kept.exists():
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


def debian_source(package: str, suite: str = "bookworm") -> Path:
    """Return the upstream archive of a Debian source package. Skips the test if it cannot be fetched."""
    cache = _cache()
    kept = sorted(cache.glob(f"{package}_*.orig.tar.*"))
    if kept:
        return kept[0]
    if shutil.which("apt-get") is None:
        pytest.skip(f"the source of {package} comes from Debian's archive, and there is no apt-get")
    with tempfile.TemporaryDirectory(dir=cache) as name:
        folder = Path(name)
        (folder / "lists/partial").mkdir(parents=True)
        (folder / "src.sources").write_text(
            "Types: deb-src\nURIs: http://deb.debian.org/debian\n"
            f"Suites: {suite}\nComponents: main\n"
            "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        )
        command = ["apt-get", "-q", "-o", f"Dir::Etc::sourcelist={folder}/src.sources"]
        command += [
            "-o",
            "Dir::Etc::sourceparts=/dev/null",
            "-o",
            f"Dir::State::lists={folder}/lists",
        ]
        for words in (["update"], ["--download-only", "source", package]):
            done = subprocess.run(
                [*command, *words],
                capture_output=True,
                text=True,
                cwd=folder,
                timeout=LIMIT,
                check=False,
            )
            if done.returncode:
                pytest.skip(
                    f"the source of {package} cannot be fetched: {done.stderr.strip()[-200:]}"
                )
        (found,) = (path for path in folder.glob("*.orig.tar.*") if path.suffix != ".asc")
        # apt has verified it by the signed index of the archive.
        return found.replace(cache / found.name)


def _cache() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vmount-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
