"""Each process that reads hostile disks, with a parser that was taken over: all is refused but its own work."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from fixtures.programs import run
from tests.support.backends.nbd.servers import listen_tcp, nbdkit, running, uri_of
from tests.support.paths import ROOT
from vmount.mounting.mountinfo import find_mount
from vmount.sandbox import landlock

pytestmark = [
    pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the attacks know x86-64's calls"),
    pytest.mark.skipif(os.geteuid() != 0, reason="root's rights are what is to be given up"),
]

REFUSED = {"EPERM", "EACCES", "EXDEV"}
"""EXDEV: Landlock's answer to a link or rename out of what is visible."""
GREETING = "all is well\n"


@dataclass
class Scene:
    """Disks, and what an attacker would like to have."""

    folder: Path
    port: int
    socket: Path
    only: tuple[str, ...] = ()
    """Attempts; empty: all."""

    @property
    def image(self) -> Path:
        """A raw image with one file, `greeting`."""
        return self.folder / "disks" / "disk.img"

    @property
    def outside(self) -> Path:
        """A folder that is none of the program's business."""
        return self.folder / "outside"

    def targets(self, *, attributes: bool) -> str:
        """Return what the attacks aim at."""
        return json.dumps(
            {
                "outside": str(self.outside),
                "port": self.port,
                "socket": str(self.socket),
                "parent": os.getpid(),
                "attributes": attributes,
                "only": self.only,
            }
        )

    def run(
        self, *words: str | Path, attributes: bool = True, code: int = 0
    ) -> tuple[dict[str, str], str]:
        """Run the command; return what the attacks came to, and what it printed."""
        reading, writing = os.pipe()
        with open(reading, "rb") as told:
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "tests.support.sandbox.hostile"),
                    *map(str, words),
                    *("--state-dir", str(self.folder / "state")),
                ],
                env=self.environment(writing, attributes=attributes),
                pass_fds=[writing],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            os.close(writing)
            assert done.returncode == code, done.stderr
            results = json.loads(told.readline())
        return results, done.stdout

    def environment(self, writing: int, *, attributes: bool = True) -> dict[str, str]:
        """Return the environment of a program that was taken over."""
        targets = self.targets(attributes=attributes)
        return {**os.environ, "HOSTILE": targets, "HOSTILE_PIPE": str(writing)}

    def assert_untouched(self) -> None:
        """Nothing outside has changed."""
        assert [path.name for path in self.outside.iterdir()] == ["secret"]
        assert (self.outside / "secret").read_bytes() == b"secret"
        assert (self.outside / "secret").stat().st_mode & 0o777 == 0o600


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("scene")
    for name in ("disks", "outside", "tree"):
        (folder / name).mkdir()
    (folder / "outside/secret").write_bytes(b"secret")
    (folder / "outside/secret").chmod(0o600)
    (folder / "tree/greeting").write_text(GREETING)
    path = folder / "disks/disk.img"
    with path.open("wb") as file:
        file.truncate(8 << 20)
    run("mke2fs", "-q", "-t", "ext4", "-d", str(folder / "tree"), str(path))
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(folder / "socket"))
        local.listen()
        yield Scene(folder, tcp.getsockname()[1], folder / "socket")


def assert_all_refused(told: dict[str, str], *but: str) -> None:
    """All attempts were refused but some."""
    done = {name: result for name, result in told.items() if result not in REFUSED}
    assert set(done) <= set(but), done


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (("ls", "IMAGE", "disk0"), "greeting"),
        (("cat", "IMAGE", "disk0/greeting"), GREETING),
        (("find", "IMAGE", "greeting"), "volumes/disk0/greeting"),
        (("diff", "IMAGE", "IMAGE"), ""),
        (("info", "IMAGE"), "ext4"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_command_that_reads(scene: Scene, words: tuple[str, ...], printed: str) -> None:
    told, output = scene.run(*(str(scene.image) if word == "IMAGE" else word for word in words))
    assert_all_refused(told)
    assert printed in output
    scene.assert_untouched()


@pytest.mark.parametrize("owner", ["me", "guest"])
def test_cp_writes_below_its_target_only(scene: Scene, owner: str) -> None:
    target = scene.folder / f"copies-{owner}"
    target.mkdir()
    # It sets modes, owners and times, and Landlock cannot say of which files.
    told, _ = scene.run("cp", "--owner", owner, scene.image, "disk0", target, attributes=False)
    assert_all_refused(told)
    assert (target / "disk0/greeting").read_text() == GREETING
    scene.assert_untouched()


def test_scan_with_a_program_reads_in_a_process_that_starts_none(scene: Scene) -> None:
    told, output = scene.run("scan", "--engine", "grep -q well", scene.image)
    assert_all_refused(told)
    assert "2 found" not in output
    assert "1 content" in output
    scene.assert_untouched()


def test_a_mount(scene: Scene) -> None:
    mountpoint = scene.folder / "mnt"
    mountpoint.mkdir()
    try:
        told, _ = scene.run("mount", scene.image, mountpoint)
        assert (mountpoint / "volumes/disk0/greeting").read_text() == GREETING
        assert_all_refused(told)
        scene.assert_untouched()
    finally:
        command(scene, "umount", mountpoint)
    assert find_mount(str(mountpoint)) is None
    assert not list((scene.folder / "state").iterdir())


def test_a_mount_does_not_write_the_journals_of_others(scene: Scene) -> None:
    state = scene.folder / "state"
    state.mkdir(mode=0o700, exist_ok=True)
    (state / "other.journal").write_bytes(b"{}\n")
    mountpoint = scene.folder / "mnt2"
    mountpoint.mkdir()
    moved = Scene(scene.folder, scene.port, scene.socket)
    shutil.copy(state / "other.journal", state / "secret")
    moved_outside = state / "secret"
    try:
        told, _ = _aimed_at(moved, moved_outside.parent, "mount", scene.image, mountpoint)
        assert told["write elsewhere"] in REFUSED
        assert told["append elsewhere"] in REFUSED
        assert told["make a file"] in REFUSED
    finally:
        command(scene, "umount", mountpoint)
        shutil.rmtree(state)


def _aimed_at(scene: Scene, outside: Path, *words: str | Path) -> tuple[dict[str, str], str]:
    class Aimed(Scene):
        @property
        def outside(self) -> Path:
            return outside

    return Aimed(scene.folder, scene.port, scene.socket).run(*words)


def test_the_process_of_a_handle(scene: Scene) -> None:
    """It serves a mount for a program that uses the API."""
    from vmount.mounting import server_process
    from vmount.mounting.config import MountConfig
    from vmount.options import OpenOptions

    mountpoint = scene.folder / "mnt3"
    mountpoint.mkdir()
    config = MountConfig((str(scene.image),), mountpoint, OpenOptions())
    reading, writing = os.pipe()
    with open(reading, "rb") as told, _program_of_servers(scene, writing):
        server = server_process.Server(config, scene.folder / "state")
        os.close(writing)
        try:
            assert (mountpoint / "volumes/disk0/greeting").read_text() == GREETING
        finally:
            server.close()
        assert_all_refused(json.loads(told.readline()))
    scene.assert_untouched()


@contextmanager
def _program_of_servers(scene: Scene, writing: int) -> Iterator[None]:
    """Have servers be started with a parser that was taken over."""
    genuine = subprocess.Popen

    def start(words: list[str], **more: Any) -> Any:
        environment = {**more.pop("env"), **scene.environment(writing)}
        return genuine(
            [sys.executable, "-m", "tests.support.sandbox.hostile", "--server", *words[3:]],
            env=environment,
            pass_fds=[writing],
            cwd=ROOT,
            **more,
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vmount.mounting.server_process.subprocess.Popen", start)
        yield


def test_a_distant_disk_leaves_the_way_to_its_server(scene: Scene) -> None:
    listener = listen_tcp("127.0.0.1")
    with running(nbdkit("file", str(scene.image)), listener):
        told, output = scene.run("ls", uri_of(listener), "disk0")
    assert_all_refused(told)
    assert "greeting" in output


def test_what_a_chain_names_elsewhere_is_read_and_nothing_beside_it(scene: Scene) -> None:
    parents = scene.folder / "parents"
    parents.mkdir()
    (parents / "secret").write_bytes(b"secret")
    base, child = parents / "base.vmdk", scene.folder / "disks" / "child.vmdk"
    run("qemu-img", "convert", "-O", "vmdk", str(scene.image), str(base))
    run("qemu-img", "create", "-q", "-f", "vmdk", "-b", str(base), "-F", "vmdk", str(child))
    told, output = _aimed_at(scene, parents, "ls", child, "disk0")
    assert_all_refused(told)
    assert "greeting" in output


def test_who_must_can_do_without(scene: Scene) -> None:
    wanted = ("start a program", "read elsewhere", "connect by TCP", "signal")
    free = replace(scene, only=wanted)
    told, _ = free.run("ls", "--no-sandbox", scene.image, "disk0")
    assert told == dict.fromkeys(wanted, "done")


def command(scene: Scene, *words: str | Path) -> None:
    """Run the command as it is."""
    subprocess.run(
        [
            *(sys.executable, "-m", "vmount", *map(str, words)),
            *("--state-dir", str(scene.folder / "state")),
        ],
        check=True,
        cwd=ROOT,
    )
