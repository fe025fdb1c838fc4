"""A simulated vCenter for each test that asks for one."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT
from vmount.vsphere.passwords import known
from vmount.vsphere.secret import Secret
from vmount.vsphere.settings import ConnectionSettings

BUILD = ROOT / "scripts" / "vcsim"
USER = "reader"
PASSWORD = "c0rrect&horse<battery>"  # needs quoting in XML
START_LIMIT = 30.0


@dataclass(frozen=True)
class Vcenter:
    """A running vcsim."""

    host: str
    port: int
    certificate: Path
    datastores: dict[str, Path]
    """The folder of each one's files."""
    calls: Path
    """What was called, see tests/vcsim/shim.go."""
    faults: Path
    """What goes wrong at /folder, a line a request, see tests/vcsim/folder.go."""

    def trusting(self) -> ssl.SSLContext:
        """Return a context that takes this server's certificate and no other."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def called(self, *methods: str) -> list[dict[str, Any]]:
        """Return the calls of these methods that were answered with no fault, in their order."""
        calls = [json.loads(line) for line in self.calls.read_text().splitlines()]
        return [call for call in calls if call["ok"] and (not methods or call["method"] in methods)]


@pytest.fixture(scope="session")
def vcsim() -> Path:
    """Return the program. Missing, it fails the tests in CI and skips them elsewhere."""
    done = subprocess.run([BUILD], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Path(done.stdout.strip())
    message = f"no vcsim; run scripts/vcsim: {done.stderr.strip()}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Return a certificate for 127.0.0.1 and its key; the simulator's own is too weak to verify."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    names = ["-subj", "/CN=vcsim", "-addext", "subjectAltName=IP:127.0.0.1,IP:::1"]
    subprocess.run(
        [*request.split(), *names, "-keyout", key, "-out", cert],
        check=True,
        capture_output=True,
    )
    return cert, key


@pytest.fixture
def vcenter(
    vcsim: Path,
    certificate: tuple[Path, Path],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[Vcenter]:
    """Run a vCenter. A test's mark `vcsim` holds more arguments of it; "-esx" makes it an ESXi host."""
    marker = request.node.get_closest_marker("vcsim")
    with running(vcsim, certificate, tmp_path / "vcsim", *(marker.args if marker else ())) as found:
        yield found


@contextmanager
def running(
    vcsim: Path, certificate: tuple[Path, Path], scratch: Path, *more: str
) -> Iterator[Vcenter]:
    """Run a vCenter. It ends with its standard input, and must not have panicked."""
    scratch.mkdir()
    cert, key = certificate
    log = scratch / "stderr"
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            [
                vcsim,
                "-username",
                USER,
                "-cert",
                cert,
                "-key",
                key,
                "-calls",
                scratch / "calls",
                "-faults",
                scratch / "faults",
                *more,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={"TMPDIR": str(scratch), "VCSIM_PASSWORD": PASSWORD},
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        watchdog = threading.Timer(START_LIMIT, process.kill)
        watchdog.start()
        line = process.stdout.readline()
        watchdog.cancel()
        assert line, log.read_text()
        said = json.loads(line)
        stores = {name: Path(folder) for name, folder in said["datastores"].items()}
        try:
            yield Vcenter(
                said["host"], int(said["port"]), cert, stores, scratch / "calls", scratch / "faults"
            )
        finally:
            process.stdin.close()
            try:
                process.wait(START_LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    assert "panic serving" not in log.read_text()


@pytest.fixture
def settings(vcenter: Vcenter) -> ConnectionSettings:
    """Return how to reach the vCenter."""
    return settings_for(vcenter)


def settings_for(vcenter: Vcenter) -> ConnectionSettings:
    """Return how to reach a vCenter."""
    return ConnectionSettings(
        host=vcenter.host,
        port=vcenter.port,
        user=USER,
        password=known("test", Secret(PASSWORD)),
        ca_file=vcenter.certificate,
        connect_timeout=10.0,
        timeout=30.0,
    )
