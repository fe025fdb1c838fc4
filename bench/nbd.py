"""How fast vmount reads an NBD export, beside nbdcopy and qemu-img bench on the same server.

Run by hand: `python -m bench.nbd [--size MIB] [--rounds N]`. Needs nbdkit, nbdcopy, qemu-img, openssl.
Each round measures all of them in turn, so that a busy machine slows them alike; what counts are the
ratios. The server (nbdkit's memory plugin) and the client share the machine.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from tests.support.backends.nbd.servers import (
    listen_tcp,
    listen_unix,
    make_certificates,
    running,
    uri_of,
)
from vmount.backends.nbd.backend import NbdOptions, open_nbd

MIB = 1 << 20
IN_FLIGHT = 8
REQUESTS = (256 << 10, MIB)


def vmount(uri: str, size: int, request: int, options: NbdOptions) -> float:
    """Read the export once; return bytes a second."""

    async def main() -> float:
        async with trio.open_nursery() as nursery:
            transport = await open_nbd(uri, nursery, options)
            await transport.read(0, 4096)
            offsets = iter(range(0, size, request))

            async def work() -> None:
                for offset in offsets:
                    await transport.read(offset, request)

            begun = time.perf_counter()
            async with trio.open_nursery() as workers:
                for _ in range(IN_FLIGHT):
                    workers.start_soon(work)
            taken = time.perf_counter() - begun
            await transport.aclose()
        return size / taken

    return trio.run(main)


def nbdcopy(uri: str, size: int, request: int) -> float:
    """Let nbdcopy read the export over one connection; its start is part of the time."""
    limits = ["--connections=1", f"--requests={IN_FLIGHT}", f"--request-size={request}"]
    begun = time.perf_counter()
    subprocess.run(["nbdcopy", *limits, uri, "null:"], check=True)
    return size / (time.perf_counter() - begun)


def qemu_bench(uri: str, size: int, request: int) -> float:
    """Let qemu-img read the export once and tell the time."""
    shape = ["-c", str(size // request), "-d", str(IN_FLIGHT), "-s", str(request)]
    told = subprocess.run(
        ["qemu-img", "bench", "-f", "raw", *shape, uri], check=True, capture_output=True, text=True
    ).stdout
    found = re.search(r"completed in ([0-9.]+) seconds", told)
    assert found is not None, told
    return size / float(found[1])


@contextmanager
def server(folder: Path, data: Path, *, tls: bool, tcp: bool) -> Iterator[str]:
    """Run nbdkit with the data in memory; yield its URI."""
    path = folder / f"socket-{tls:d}"
    listener = listen_tcp("127.0.0.1") if tcp else listen_unix(path)
    wanted = ["--tls=require", f"--tls-certificates={folder}"] if tls else []
    parameters = f"tls-certificates={folder}&tls-hostname=localhost" if tls else ""
    argv = ["nbdkit", "--foreground", *wanted, "memory", str(data.stat().st_size)]
    with running(argv, listener):
        uri = uri_of(listener, tls=parameters)
        subprocess.run(["nbdcopy", str(data), uri], check=True)
        yield uri


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="MiB of the export")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tcp", action="store_true", help="over 127.0.0.1, not a Unix socket")
    arguments = parser.parse_args()
    size = arguments.size * MIB
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "data"
        subprocess.run(["openssl", "rand", "-out", str(data), str(size)], check=True)
        make_certificates(folder)
        with (
            server(folder, data, tls=False, tcp=arguments.tcp) as plain,
            server(folder, data, tls=True, tcp=arguments.tcp) as encrypted,
        ):
            for request in REQUESTS:
                compare(plain, encrypted, size, request, arguments.rounds)


def compare(plain: str, encrypted: str, size: int, request: int, rounds: int) -> None:
    """Print the medians of the throughputs and of the ratios within a round."""
    one = NbdOptions(max_connections=1)
    runs: dict[str, Callable[[], float]] = {
        "vmount": lambda: vmount(plain, size, request, one),
        "vmount, 4 connections": lambda: vmount(plain, size, request, NbdOptions()),
        "nbdcopy": lambda: nbdcopy(plain, size, request),
        "qemu-img bench": lambda: qemu_bench(plain, size, request),
        "vmount TLS": lambda: vmount(encrypted, size, request, one),
        "nbdcopy TLS": lambda: nbdcopy(encrypted, size, request),
    }
    measured = [{name: run() for name, run in runs.items()} for _ in range(rounds)]
    print(f"{request >> 10} KiB a request, {IN_FLIGHT} in flight:")
    for name in runs:
        print(f"  {name:24}{statistics.median(each[name] for each in measured) / 1e6:8.0f} MB/s")
    for above, below in (
        ("vmount", "nbdcopy"),
        ("vmount", "qemu-img bench"),
        ("vmount TLS", "nbdcopy TLS"),
        ("vmount TLS", "vmount"),
        ("nbdcopy TLS", "nbdcopy"),
    ):
        ratio = statistics.median(each[above] / each[below] for each in measured)
        print(f"  {above} / {below}: {ratio:.2f}")


if __name__ == "__main__":
    main()
