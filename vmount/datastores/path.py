"""Names of files in vSphere datastores, and the address that a file has under /folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

_PATH = re.compile(r"\[([^/\0]+?)\] (.*)", re.DOTALL)
"""As vSphere writes it: the name of a datastore may hold a bracket."""
_TYPED = re.compile(r"\[([^\]/\0]+)\](.*)", re.DOTALL)
"""As people write it."""


class DatastorePathError(ValueError):
    """A text that is not "[datastore] folder/file"."""


@dataclass(frozen=True)
class DatastorePath:
    """A file in a datastore, as vSphere writes it: "[datastore] folder/file".

    Raises DatastorePathError for a path that leaves the datastore, or names no file.
    """

    datastore: str
    path: str
    """Relative to the datastore's root, with slashes."""

    def __post_init__(self) -> None:
        parts = self.path.split("/")
        if "\0" in self.path or any(part in ("", ".", "..") for part in parts):
            raise DatastorePathError(f"{str(self)!r} is not the path of a file in a datastore")

    @classmethod
    def parse(cls, text: str) -> DatastorePath:
        """Parse "[datastore] folder/file". Raises DatastorePathError."""
        matched = _PATH.fullmatch(text) or _TYPED.fullmatch(text)
        if matched is None:
            raise DatastorePathError(f"invalid path {text!r} (expected [datastore] folder/file)")
        return cls(matched[1], matched[2].strip("/"))

    @property
    def folder(self) -> str:
        """The path of the folder that the file is in; "" for the root."""
        return self.path.rpartition("/")[0]

    def __str__(self) -> str:
        return f"[{self.datastore}] {self.path}"


def folder_url(base: str, path: DatastorePath, datacenter: str, *, via_vcenter: bool) -> str:
    """Return the address of a file under /folder of a vCenter or a host.

    `base` is https://host[:port]; `datacenter` its inventory path. A vCenter decodes dcPath and dsName
    twice, so they are encoded twice for it.
    """

    def value(text: str) -> str:
        once = quote(text, safe="")
        return quote(once, safe="") if via_vcenter else once

    return (
        f"{base.rstrip('/')}/folder/{quote(path.path, safe='/')}"
        f"?dcPath={value(datacenter)}&dsName={value(path.datastore)}"
    )
