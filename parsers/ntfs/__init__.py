"""NTFS, versions 1.1 to 3.1, read only.

One file for each structure on the disk, decoders only: boot, fixup, record, attribute, attribute_list,
runlist, standard_information, file_name, index, reparse, reparse_tags, interix, ea, volume, logfile, lznt1,
lzx, xpress, security_descriptor; names has the encoding of names. Those that read: stream (one attribute),
mft (records), directory (an index of names), view_index (any other), index_blocks, security (descriptors),
special (links and devices), volume_state, open, and filesystem, which walks. stream_names has alternate streams
as files. file_attrs, file_data, compression, filtered and wof turn what was decoded into the words of
parsers.model; permissions, user_map and owners a descriptor into owner and mode; system_xattrs and object_id
all else into what ntfs-3g shows.

Source: reverse engineered, the Linux-NTFS documentation (Russon, Fledel) for the structures that Microsoft does not
publish, [MS-FSCC], [MS-DTYP] and [MS-XCA] for the others; ntfs-3g where the two say nothing.
"""

from vmount.parsers.ntfs.filesystem import NtfsFilesystem
from vmount.parsers.ntfs.open import open_ntfs
from vmount.parsers.ntfs.options import NtfsOptions
from vmount.parsers.ntfs.user_map import UserMap, parse_user_map

__all__ = [
    "NtfsFilesystem",
    "NtfsOptions",
    "UserMap",
    "open_ntfs",
    "parse_user_map",
]
