"""Disks that other programs wrote, built once a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures import vmdk


@pytest.fixture(scope="session")
def subformats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, vmdk.Disk]:
    return vmdk.build_subformats(tmp_path_factory.mktemp("vmdk"))


@pytest.fixture(scope="session")
def footer_stream(tmp_path_factory: pytest.TempPathFactory) -> vmdk.Disk:
    return vmdk.stream_with_footer(tmp_path_factory.mktemp("footer"))


@pytest.fixture(scope="session")
def qemu_chain(tmp_path_factory: pytest.TempPathFactory) -> vmdk.Disk:
    return vmdk.build_chain(tmp_path_factory.mktemp("chain"), 32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
