"""What is done with the files of open disks: copy, scan, find, compare; and cleaning up after a killed process."""
