"""Formats: partition tables, volume managers, file systems, VMDK. Bytes in, frozen values out."""
