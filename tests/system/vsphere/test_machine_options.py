"""What the command line says of snapshots and the relocation lock."""

from __future__ import annotations

import argparse

import pytest

from vmount.commands.machine_options import access_options, add_access_arguments
from vmount.errors import UsageError
from vmount.vsphere.access_options import AccessOptions, LockMode, Quiesce


def parsed(*words: str) -> AccessOptions:
    parser = argparse.ArgumentParser()
    add_access_arguments(parser)
    return access_options(parser.parse_args(words))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), AccessOptions()),
        (("--snapshot", "snapshot-7"), AccessOptions(snapshot="snapshot-7")),
        (("--quiesce",), AccessOptions(quiesce=Quiesce.REQUIRE)),
        (("--try-quiesce", "--keep-snapshot"), AccessOptions(None, Quiesce.TRY, True)),
        (
            ("--lock", "require", "--lock-wait", "60"),
            AccessOptions(lock=LockMode.REQUIRE, lock_wait=60.0),
        ),
        (("--lock=no", "--snapshot=new"), AccessOptions("new", lock=LockMode.NO)),
    ],
)
def test_options(words: tuple[str, ...], expected: AccessOptions) -> None:
    assert parsed(*words) == expected


@pytest.mark.parametrize("option", ["--quiesce", "--keep-snapshot"])
def test_what_is_for_a_new_snapshot_only(option: str) -> None:
    with pytest.raises(UsageError, match=f"{option} is for a new snapshot"):
        parsed("--snapshot", "current", option)


@pytest.mark.parametrize("words", [("--lock-wait", "-1"), ("--lock", "maybe"), ("--quiesce=no",)])
def test_nonsense_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit):
        parsed(*words)
