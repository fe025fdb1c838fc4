"""Virtual disks whose files are in vSphere datastores, wherever those can be read."""
