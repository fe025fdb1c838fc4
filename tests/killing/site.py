"""The disk, the clamd and the vCenter that the commands are run against."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from fixtures import malware
from fixtures.guests import make_disk
from tests.killing.commands import Site
from tests.system.vsphere.conftest import BUILD, PASSWORD, USER, make_certificate, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """Make them; what is not installed is None, or left out of the environment."""
    volumes = [malware.build_ext4(folder), malware.build_ntfs(folder)]
    types = ("type=83", "type=7")
    parts = list(zip([volume.image for volume in volumes], types, strict=True))
    disk = make_disk(folder / "disk.img", "label: dos", parts)
    with ExitStack() as stack:
        clamd = folder / "clamd"
        clamd.mkdir()
        socket = stack.enter_context(malware.clamd(clamd))
        # As `clamscan` has them: the system may have no signatures.
        programs = folder / "bin"
        programs.mkdir()
        script = programs / "clamscan"
        script.write_text(
            f'#!/bin/sh\nexec {shutil.which("clamscan")} -d {clamd / "signatures"} "$@"\n'
        )
        script.chmod(0o755)
        environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
        built = subprocess.run([BUILD], capture_output=True, text=True, check=False)
        if built.returncode == 0:
            certificate = make_certificate(folder)
            program = folder.__class__(built.stdout.strip())
            vcenter = stack.enter_context(running(program, certificate, folder / "vcsim"))
            environment |= {
                "GOVC_URL": f"{vcenter.host}:{vcenter.port}",
                "GOVC_USERNAME": USER,
                "GOVC_PASSWORD": PASSWORD,
                "GOVC_TLS_CA_CERTS": str(vcenter.certificate),
            }
        yield Site(disk, socket, environment)
