"""From what the user names to open disks."""
