"""Mount the disks of a VMware virtual machine, read-only."""

__version__ = "0.1.0"
