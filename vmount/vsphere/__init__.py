"""Virtual machines in vCenter and on ESXi hosts. pyvmomi is used here and nowhere else."""
