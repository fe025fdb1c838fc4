"""What a mount without pyfuse3 tells."""

from __future__ import annotations

import pytest

from vmount.mounting.fuse_library import install_command


@pytest.mark.parametrize(
    ("os_release", "program"),
    [
        ({"ID": "debian"}, "apt"),
        ({"ID": "ubuntu", "ID_LIKE": "debian"}, "apt"),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "dnf"),
        ({"ID": "sles", "ID_LIKE": "suse"}, "zypper"),
        ({"ID": "unheard-of"}, "apt"),
        ({}, "apt"),
    ],
)
def test_the_packages_are_those_of_the_distribution(
    os_release: dict[str, str], program: str
) -> None:
    assert install_command(os_release).startswith(f"{program} install ")
