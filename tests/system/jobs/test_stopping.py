"""What lets a program stop: queues that end, looks with a deadline, paths that are not looked at."""

from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path

import pytest

from vmount.jobs.scan.feeder import Channel, GivenUp
from vmount.mounting.apart import apart
from vmount.mounting.mountinfo import resolve
from vmount.mounting.notify import SOCKET, Notifier


def test_a_channel_ends_for_who_waits_on_either_side() -> None:
    given_up = threading.Event()
    empty, full = Channel[int](1, given_up), Channel[int](1, given_up)
    full.put(1)
    ended = []

    def take() -> None:
        with pytest.raises(GivenUp):
            empty.get()
        ended.append("get")

    def give() -> None:
        with pytest.raises(GivenUp):
            full.put(2)
        ended.append("put")

    threads = [threading.Thread(target=wait) for wait in (take, give)]
    for thread in threads:
        thread.start()
    given_up.set()
    for thread in threads:
        thread.join()
    assert sorted(ended) == ["get", "put"]


def test_a_look_that_does_not_come_back_is_left_behind() -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(TimeoutError):
            apart(lambda: os.read(reading, 1), 0.05)
        assert apart(lambda: b"x" * 200_000) == b"x" * 200_000
        with pytest.raises(PermissionError):
            apart(refuse)
    finally:
        os.close(reading)
        os.close(writing)


def refuse() -> bytes:
    raise OSError(errno.EACCES, "no")


def test_a_path_is_resolved_as_the_system_does(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "round").symlink_to(tmp_path / "link" / "b")
    (tmp_path / "a" / "self").symlink_to("self")
    for text in ("link/b", "round/../b", "link/./b/nothing", "round", "a/b/../../link", "a/self"):
        assert resolve(f"{tmp_path}/{text}") == os.path.realpath(f"{tmp_path}/{text}"), text


@pytest.mark.parametrize("is_abstract", [False, True])
def test_systemd_is_told_that_the_mount_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_abstract: bool
) -> None:
    name = f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}" if is_abstract else name)
        monkeypatch.setenv(SOCKET, f"@{name}" if is_abstract else name)
        Notifier().ready()
        assert manager.recv(100) == b"READY=1"
    monkeypatch.delenv(SOCKET)
    Notifier().ready()
