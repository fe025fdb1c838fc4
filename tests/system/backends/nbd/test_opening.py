"""Opening and listing: what is told, what is refused and how the refusal reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from tests.support.backends.nbd.servers import (
    listen_tcp,
    listen_unix,
    make_certificates,
    nbd_server,
    nbdkit,
    need,
    qemu_nbd,
    running,
    uri_of,
)
from vmount.backends.base import BackendError, BackendRefused
from vmount.backends.nbd.backend import ExportInfo, NbdOptions, list_exports, open_nbd


@contextmanager
def tls_server(image: Path, certificates: Path, *arguments: str) -> Iterator[str]:
    """Run nbdkit with TLS on 127.0.0.1; yield host and port."""
    listener = listen_tcp("127.0.0.1")
    argv = nbdkit(
        "--tls=require", f"--tls-certificates={certificates}", *arguments, "file", str(image)
    )
    with running(argv, listener):
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def refusal(uri: str, nursery: trio.Nursery, options: NbdOptions | None = None) -> str:
    """Return how opening is refused."""
    with pytest.raises(BackendRefused) as caught:
        await open_nbd(uri, nursery, options or NbdOptions())
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(uri.partition("://")[0])
    return message


@pytest.mark.requirement("R41")
async def test_tls_is_described(
    image: Path, certificates: Path, nursery: trio.Nursery, content: bytes
) -> None:
    with tls_server(image, certificates) as address:
        options = NbdOptions(tls_certificates=certificates)
        backend = await open_nbd(f"nbds://{address}", nursery, options)
        assert await backend.read(0, 100) == content[:100]
        described = backend.describe()
        assert json.loads(json.dumps(described)) == described
        tls = described["tls"]
        assert isinstance(tls, dict)
        assert tls["version"] in ("TLSv1.2", "TLSv1.3")
        assert "AES" in tls["cipher"] or "CHACHA" in tls["cipher"]
        assert tls["peer_verified"]
        assert tls["hostname_checked"]
        await backend.aclose()


async def test_certificates_are_verified(
    image: Path, certificates: Path, tmp_path: Path, nursery: trio.Nursery, content: bytes
) -> None:
    make_certificates(tmp_path)
    with tls_server(image, certificates) as address:
        uri = f"nbds://{address}/"
        assert "certificate is not accepted: unable to get local issuer" in await refusal(
            uri, nursery
        )
        other = f"{uri}?tls-certificates={tmp_path}"
        assert "certificate is not accepted" in await refusal(other, nursery)
        named = f"{uri}?tls-certificates={certificates}&tls-hostname=somebody.example"
        assert "Hostname mismatch" in await refusal(named, nursery)
        backend = await open_nbd(f"{uri}?tls-verify-peer=0", nursery)
        assert await backend.read(0, 100) == content[:100]
        tls = backend.describe()["tls"]
        assert isinstance(tls, dict)
        assert not tls["peer_verified"]
        await backend.aclose()


async def test_a_client_certificate_that_is_missing(
    image: Path, certificates: Path, tmp_path: Path, nursery: trio.Nursery
) -> None:
    shutil.copy(certificates / "ca-cert.pem", tmp_path)
    with tls_server(image, certificates, "--tls-verify-peer") as address:
        uri = f"nbds://{address}/?tls-certificates={tmp_path}"
        assert "client certificate" in await refusal(uri, nursery)


async def test_certificates_that_are_not_there(tmp_path: Path, nursery: trio.Nursery) -> None:
    uri = f"nbds://127.0.0.1/?tls-certificates={tmp_path / 'none'}"
    with pytest.raises(BackendError, match=r"none cannot be used: .*No such file.*ca-cert"):
        await open_nbd(uri, nursery)


async def test_tls_or_not(
    image: Path, certificates: Path, tmp_path: Path, nursery: trio.Nursery
) -> None:
    with tls_server(image, certificates) as address:
        assert "requires TLS; use nbds://" in await refusal(f"nbd://{address}/", nursery)
    listener = listen_unix(tmp_path / "socket")
    with running(nbdkit("file", str(image)), listener):
        uri = uri_of(listener, tls=f"tls-certificates={certificates}")
        assert "has no TLS" in await refusal(uri, nursery)


async def test_an_unknown_export(image: Path, tmp_path: Path, nursery: trio.Nursery) -> None:
    listener = listen_unix(tmp_path / "socket")
    with running(qemu_nbd(image, "raw", "--export-name=one"), listener):
        assert "no export 'two'; the server has 'one'" in await refusal(
            uri_of(listener, "two"), nursery
        )
    with nbd_server(tmp_path, image) as path:
        message = await refusal(f"nbd+unix:///none?socket={path}", nursery)
        assert "no export 'none'; the server has 'disk'" in message


async def test_listing_exports(image: Path, tmp_path: Path, content: bytes) -> None:
    need("qemu-nbd")
    listener = listen_unix(tmp_path / "socket")
    with running(qemu_nbd(image, "raw", "-x", "a b", "-D", "the disk"), listener):
        assert await list_exports(uri_of(listener)) == [ExportInfo("a b", "the disk", len(content))]
    folder = tmp_path / "exports"
    folder.mkdir()
    for name, size in (("first", 512), ("second", 100_000)):
        (folder / name).write_bytes(bytes(size))
    listener = listen_unix(tmp_path / "socket2")
    with running(nbdkit("file", f"dir={folder}"), listener):
        exports = await list_exports(uri_of(listener, "ignored"))
        assert sorted(exports) == [ExportInfo("first", "", 512), ExportInfo("second", "", 100_000)]
    with nbd_server(tmp_path, image) as path:
        assert await list_exports(f"nbd+unix:///?socket={path}") == [ExportInfo("disk", "", None)]


async def test_listing_over_tls(image: Path, certificates: Path, content: bytes) -> None:
    with tls_server(image, certificates) as address:
        uri = f"nbds://{address}/?tls-certificates={certificates}"
        assert await list_exports(uri) == [ExportInfo("", "", len(content))]
        with pytest.raises(BackendRefused, match="requires TLS"):
            await list_exports(f"nbd://{address}/")


@pytest.mark.requirement("R23")
async def test_a_size_that_nothing_divides(tmp_path: Path, nursery: trio.Nursery) -> None:
    need("nbdcopy")
    listener = listen_unix(tmp_path / "socket")
    with running(nbdkit("pattern", "1000001"), listener):
        uri = uri_of(listener)
        copied = await trio.run_process(["nbdcopy", uri, "-"], capture_stdout=True)
        expected = copied.stdout
        backend = await open_nbd(uri, nursery)
        assert backend.size == 1000001
        assert await backend.read(0, 1000001) == expected
        assert await backend.read(1000000, 1) == expected[-1:]
        await backend.aclose()


@pytest.mark.requirement("R37")
async def test_a_large_disk(tmp_path: Path, nursery: trio.Nursery) -> None:
    listener = listen_unix(tmp_path / "socket")
    size = (1 << 63) - 512
    with running(nbdkit("pattern", str(size)), listener):
        backend = await open_nbd(uri_of(listener), nursery)
        assert backend.size == size
        # The pattern plugin: each eight bytes are their own offset, big-endian.
        assert await backend.read(size - 8, 8) == (size - 8).to_bytes(8, "big")
        assert await backend.read(62 << 40, 8) == (62 << 40).to_bytes(8, "big")
        await backend.aclose()


async def test_the_options_of_a_server_are_kept(
    image: Path, tmp_path: Path, nursery: trio.Nursery
) -> None:
    listener = listen_unix(tmp_path / "socket")
    sizes = ("blocksize-minimum=4096", "blocksize-preferred=64K", "blocksize-maximum=256K")
    policy = ("--filter=blocksize-policy", "file", str(image), "blocksize-error-policy=error")
    with running(nbdkit(*policy, *sizes), listener):
        backend = await open_nbd(uri_of(listener), nursery)
        assert backend.max_read == 256 << 10
        assert backend.describe()["block_sizes"] == [4096, 64 << 10, 256 << 10]
        await backend.aclose()


async def test_holes_are_seen(image: Path, tmp_path: Path, nursery: trio.Nursery) -> None:
    listener = listen_unix(tmp_path / "socket")
    with running(nbdkit("file", str(image)), listener):
        backend = await open_nbd(uri_of(listener), nursery)
        kinds = [extent.zero for extent in await backend.allocated(0, backend.size)]
        assert kinds == [False, True, False]
        await backend.aclose()
