"""A certificate, its context, and the scripted server."""

from __future__ import annotations

import random
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backends.https.scripted import Server, make_certificate


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def trust(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate[0]))


@pytest.fixture(scope="session")
def reference() -> bytes:
    return random.Random(7).randbytes((2 << 20) + 777)


@pytest.fixture
def server(certificate: tuple[Path, Path], reference: bytes) -> Iterator[Server]:
    with Server(reference, certificate) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.02,))
        thread.start()
        yield found
        found.released.set()
        found.shutdown()
        thread.join()
