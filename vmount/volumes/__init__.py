"""Volume managers: from devices that are members to the devices that they make up.

Strategy: MD arrays first, since LVM and file systems lie on them; then LVM; dynamic disks beside them,
from the disks themselves. Each manager's own parser says what belongs together, in words
(`parsers.mapping`); here the words become sources.
"""
