"""VMware virtual disks: descriptors, extents of every type, snapshot chains; and the .vmx that lists them.

`disk.open_vmdk` is the way in. `descriptor` and `vmx` decode text; `sparse`, `stream`, `cowd`, `sesparse`
and `flat` are a module for each form of extent; `chain` opens the links of a disk, `disk` flattens them.
"""
