"""Names of files in vSphere datastores, and the address that a file has under /folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

_PATH = re.compile(r"\[([^\]/\0]+)\] ?(.*)", re.DOTALL)


class DatastorePathError(ValueError):
    """A text that is not "[datastore] folder/file"."""


@dataclass(frozen=True)
class DatastorePath:
    """A file in a datastore, as vSphere writes it: "[datastore] folder/file"."""

    datastore: str
    path: str
    """Relative to the datastore's root, with slashes."""

    @classmethod
    def parse(cls, text: str) -> DatastorePath:
        """Parse "[datastore] folder/file".

        Raises DatastorePathError, also for a path that leaves the datastore.
        """
        matched = _PATH.fullmatch(text)
        if matched is None:
            raise DatastorePathError(f"{text!r} is not of the form [datastore] folder/file")
        path = matched[2].strip("/")
        parts = path.split("/")
        if "\0" in path or not path or any(part in ("", ".", "..") for part in parts):
            raise DatastorePathError(f"{text!r} does not name a file in its datastore")
        return cls(matched[1], path)

    def __str__(self) -> str:
        return f"[{self.datastore}] {self.path}"


def folder_url(base: str, datastore_path: str, datacenter: str, *, via_vcenter: bool) -> str:
    """Return the address of a file under /folder of a vCenter or a host.

    `base` is https://host[:port]; `datacenter` its inventory path. A vCenter decodes dcPath and dsName
    twice, so they are encoded twice for it. Raises DatastorePathError.
    """
    named = DatastorePath.parse(datastore_path)

    def value(text: str) -> str:
        once = quote(text, safe="")
        return quote(once, safe="") if via_vcenter else once

    return (
        f"{base.rstrip('/')}/folder/{quote(named.path, safe='/')}"
        f"?dcPath={value(datacenter)}&dsName={value(named.datastore)}"
    )
