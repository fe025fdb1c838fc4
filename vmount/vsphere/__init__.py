"""vCenter and ESXi: connecting, and finding machines and their disks.

pyvmomi blocks: it is imported where it is used, and called in threads (`session.Session.call`).
"""
