"""The transports as ways to the disks of one machine in vSphere, and which of them there are."""
