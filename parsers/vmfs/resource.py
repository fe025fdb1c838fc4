"""Resource files: where sub-blocks, pointer blocks and file descriptors lie.

Such a file has a header and groups of clusters. A group begins with two metadata blocks (lock, allocation)
for each of its clusters; the resources of all its clusters follow. What is allocated is not looked at:
a file that points to a resource says so by that.

Source: reverse engineered, vmfs-tools and dissect.vmfs (c_vmfs.py, Res3_Metadata).
"""

from __future__ import annotations

from dataclasses import dataclass

from vmount.parsers.errors import Corrupt
from vmount.parsers.layout import Field, Layout
from vmount.parsers.reader import Buffer
from vmount.parsers.vmfs.address import ResourceAddress
from vmount.parsers.vmfs.errors import Damage
from vmount.parsers.vmfs.fs_info import FsInfo

SIGNATURE = 0x72666D64

RESOURCE_HEADER = Layout(
    "VMFS resource file header",
    Field("per_cluster", "I", at=0x00, note="resourcePerCluster"),
    Field("clusters_per_group", "I", at=0x04, note="clustersPerClusterGroup"),
    Field("groups_offset", "I", at=0x08, note="firstClusterGroupOffset: bytes in the file"),
    Field("resource_size", "I", at=0x0C, note="bytes"),
    Field("group_size", "I", at=0x10, note="clusterGroupSize: bytes"),
    Field("count_low", "I", at=0x14, note="numResourcesLo"),
    Field("groups", "I", at=0x18, note="numClusterGroups"),
    Field("count_high", "I", at=0x1C, note="numResourcesHi; from here on VMFS-6 only"),
    Field("signature", "I", at=0x20, note="dmfr (0x72666D64)"),
    Field("version", "I", at=0x24),
    Field("flags", "I", at=0x28),
    Field("affinity_per_cluster", "H", at=0x2C, note="affinityPerResourceCluster"),
    Field("affinity_per_resource", "H", at=0x2E),
    Field("bits_per_resource", "I", at=0x30),
    Field("child_offset", "I", at=0x34, note="childMetaOffset"),
    size=56,
    source="reverse engineered: vmfs-tools; dissect.vmfs c_vmfs.py Res3_Metadata",
)

_VERSION = 1
_MAX_RESOURCE = 1 << 20


@dataclass(frozen=True)
class ResourceLayout:
    """How a resource file is divided. Offsets and sizes in bytes."""

    per_cluster: int
    clusters_per_group: int
    groups_offset: int
    resource_size: int
    group_size: int
    groups: int
    headers_size: int
    """Of the metadata blocks that a group begins with."""

    def offset(self, address: ResourceAddress) -> int:
        """Return where a resource is in the file.

        Raises Corrupt if there is no such one.
        """
        group, cluster = divmod(address.cluster, self.clusters_per_group)
        if group >= self.groups or address.number >= self.per_cluster:
            raise Corrupt(
                Damage.OUTSIDE_RESOURCE_FILE,
                of=address.kind.name.lower(),
                expected=f"{self.groups} groups of {self.clusters_per_group} clusters "
                f"of {self.per_cluster}",
                actual=f"cluster {address.cluster}, number {address.number}",
            )
        start = self.groups_offset + group * self.group_size + self.headers_size
        return start + (cluster * self.per_cluster + address.number) * self.resource_size


def decode_resource_header(data: Buffer, info: FsInfo, name: str) -> ResourceLayout:
    """Decode a resource file's header; `name` is the file's, for messages.

    Raises Corrupt if it is none, or is impossible.
    """
    raw = RESOURCE_HEADER.parse(data)
    if info.is_vmfs6 and (raw.signature != SIGNATURE or raw.version != _VERSION):
        raise Corrupt(
            Damage.RESOURCE_FILE_SIGNATURE, of=name, expected=SIGNATURE, actual=raw.signature
        )
    headers = raw.clusters_per_group * (2 * info.alignment)
    resources = raw.clusters_per_group * raw.per_cluster * raw.resource_size
    if raw.groups and (
        not raw.clusters_per_group
        or raw.resource_size > _MAX_RESOURCE
        or raw.group_size < headers + resources
    ):
        raise Corrupt(
            Damage.RESOURCE_FILE_SIZE_OF_GROUP,
            of=name,
            expected=f"at least {headers + resources:#x}",
            actual=raw.group_size,
        )
    return ResourceLayout(
        per_cluster=raw.per_cluster,
        clusters_per_group=max(1, raw.clusters_per_group),
        groups_offset=raw.groups_offset,
        resource_size=raw.resource_size,
        group_size=raw.group_size,
        groups=raw.groups,
        headers_size=headers,
    )
