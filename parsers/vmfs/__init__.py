"""VMFS-5 and VMFS-6: the file systems of VMware datastores, and the volume manager below them.

Source: the on-disk structures as vmfs-tools, vmfs6-tools and dissect.vmfs document them; VMware publishes
none.
"""
