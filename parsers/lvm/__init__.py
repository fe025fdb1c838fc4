"""LVM2: volume groups, and the logical volumes in them."""
