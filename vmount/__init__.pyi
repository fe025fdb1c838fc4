from vmount.api import DirEntry as DirEntry
from vmount.api import DiskSet as DiskSet
from vmount.api import FileReader as FileReader
from vmount.api import FileStat as FileStat
from vmount.api import OpenOptions as OpenOptions
from vmount.api import open_disks as open_disks
from vmount.errors import SourceError as SourceError
from vmount.errors import UsageError as UsageError
from vmount.errors import VmountError as VmountError

__version__: str
__all__ = [
    "DirEntry",
    "DiskSet",
    "FileReader",
    "FileStat",
    "OpenOptions",
    "SourceError",
    "UsageError",
    "VmountError",
    "__version__",
    "open_disks",
]
