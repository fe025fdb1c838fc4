"""The contract of backends, kept over every server, handshake and kind of socket."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from tests.contracts.backend import BackendContract
from tests.support.backends.nbd.servers import (
    listen_tcp,
    listen_unix,
    nbd_server,
    nbdkit,
    need,
    qemu_nbd,
    running,
    uri_of,
)
from vmount.backends.nbd.backend import NbdBackend, open_nbd

BLOCK_SIZES = (
    "blocksize-error-policy=error",
    "blocksize-minimum=4096",
    "blocksize-preferred=64K",
    "blocksize-maximum=256K",
)


class Place(NamedTuple):
    """What a server may need."""

    folder: Path
    image: Path
    certificates: Path


Case = Callable[[Place], AbstractContextManager[str]]


def plain(*arguments: str, host: str = "", export: str = "") -> Case:
    """Let nbdkit serve the image, over a Unix socket unless a host is given."""

    @contextmanager
    def serve(place: Place) -> Iterator[str]:
        listener = listen_tcp(host) if host else listen_unix(place.folder / "socket")
        with running(nbdkit(*arguments, "file", str(place.image)), listener):
            yield uri_of(listener, export)

    return serve


def filtered(name: str, *parameters: str) -> Case:
    """Let nbdkit serve the image through a filter."""

    @contextmanager
    def serve(place: Place) -> Iterator[str]:
        listener = listen_unix(place.folder / "socket")
        argv = nbdkit(f"--filter={name}", "file", str(place.image), *parameters)
        with running(argv, listener):
            yield uri_of(listener)

    return serve


def encrypted(*arguments: str, host: str = "", hostname: str = "") -> Case:
    """Let nbdkit serve the image over TLS."""

    @contextmanager
    def serve(place: Place) -> Iterator[str]:
        listener = listen_tcp(host) if host else listen_unix(place.folder / "socket")
        tls = f"tls-certificates={place.certificates}"
        tls += f"&tls-hostname={hostname}" if hostname else ""
        wanted = ("--tls=require", f"--tls-certificates={place.certificates}", *arguments)
        with running(nbdkit(*wanted, "file", str(place.image)), listener):
            yield uri_of(listener, tls=tls)

    return serve


def qemu(form: str, *options: str, host: str = "") -> Case:
    """Let qemu-nbd serve the image, converted to a format by qemu-img."""

    @contextmanager
    def serve(place: Place) -> Iterator[str]:
        need("qemu-img")
        path = place.folder / f"disk.{form}"
        convert = ["qemu-img", "convert", "-f", "raw", "-O", form, *options]
        subprocess.run([*convert, str(place.image), str(path)], check=True)
        listener = listen_tcp(host) if host else listen_unix(place.folder / "socket")
        with running(qemu_nbd(path, form, "--export-name=a disk/ä"), listener):
            yield uri_of(listener, "a disk/ä")

    return serve


@contextmanager
def qemu_tls(place: Place) -> Iterator[str]:
    """Let qemu-nbd serve the image over TLS to clients with a certificate."""
    listener = listen_tcp("127.0.0.1")
    credentials = f"tls-creds-x509,id=tls0,dir={place.certificates},endpoint=server,verify-peer=on"
    arguments = ("--object", credentials, "--tls-creds=tls0")
    with running(qemu_nbd(place.image, "raw", *arguments), listener):
        yield uri_of(listener, tls=f"tls-certificates={place.certificates}")


@contextmanager
def debian(place: Place) -> Iterator[str]:
    """Let nbd-server serve the image."""
    with nbd_server(place.folder, place.image) as path:
        yield f"nbd+unix:///disk?socket={path}"


@contextmanager
def debian_tls(place: Place) -> Iterator[str]:
    """Let nbd-server serve the image over TLS."""
    keys = (
        f"certfile = {place.certificates}/server-cert.pem",
        f"keyfile = {place.certificates}/server-key.pem",
        f"cacertfile = {place.certificates}/ca-cert.pem",
        "force_tls = true",
    )
    with nbd_server(place.folder, place.image, *keys) as path:
        yield f"nbds+unix:///disk?socket={path}&tls-certificates={place.certificates}"


CASES: dict[str, Case] = {
    "nbdkit-unix": plain(),
    "nbdkit-tcp4": plain(host="127.0.0.1"),
    "nbdkit-r40-tcp6": plain(host="::1"),
    "nbdkit-simple-replies": plain("--no-sr"),
    "nbdkit-newstyle-not-fixed": plain("--mask-handshake=0"),
    "nbdkit-with-zeroes": plain("--mask-handshake=1"),
    "nbdkit-oldstyle": plain("--oldstyle"),
    "nbdkit-block-sizes": filtered("blocksize-policy", *BLOCK_SIZES),
    "nbdkit-delay": filtered("delay", "rdelay=2ms"),
    "nbdkit-no-extents": filtered("noextents"),
    "nbdkit-one-connection": filtered("multi-conn", "multi-conn-mode=disable"),
    "nbdkit-serialised": filtered("noparallel"),
    "nbdkit-tls-tcp4": encrypted(host="127.0.0.1"),
    "nbdkit-tls-tcp6": encrypted(host="::1"),
    "nbdkit-tls-unix": encrypted(),
    "nbdkit-tls-unix-hostname": encrypted(hostname="localhost"),
    "nbdkit-tls-client-certificate": encrypted("--tls-verify-peer", host="127.0.0.1"),
    "qemu-raw": qemu("raw"),
    "qemu-qcow2": qemu("qcow2"),
    "qemu-vmdk": qemu("vmdk", "-o", "subformat=streamOptimized"),
    "qemu-tcp6": qemu("raw", host="::1"),
    "qemu-tls": qemu_tls,
    "nbd-server": debian,
    "nbd-server-tls": debian_tls,
}


@pytest.fixture(scope="module", params=list(CASES))
def uri(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    image: Path,
    certificates: Path,
) -> Iterator[str]:
    """The export of a server that runs."""
    folder = tmp_path_factory.mktemp("server")
    with CASES[request.param](Place(folder, image, certificates)) as uri:
        yield uri


class TestContract(BackendContract):
    """The contract, over each server."""

    @pytest.fixture
    def reference(self, content: bytes) -> bytes:
        """The bytes of the image."""
        return content

    @pytest.fixture
    async def backend(self, uri: str, nursery: trio.Nursery) -> AsyncIterator[NbdBackend]:
        """The export, opened."""
        backend = await open_nbd(uri, nursery)
        yield backend
        await backend.aclose()
