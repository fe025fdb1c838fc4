"""What `--transport` names: the ways to read the disks of a virtual machine in vSphere."""
