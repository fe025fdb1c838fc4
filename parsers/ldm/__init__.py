"""Windows dynamic disks (Logical Disk Manager)."""
