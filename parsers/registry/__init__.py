"""Windows registry hives, read only: as much as it takes to look up keys and values.

Decoders: base_block, cells (keys, values, lists of subkeys), value (typed data). hive walks.
Source of all structures: Maxim Suhanov, "Windows registry file format specification".
"""

from vmount.parsers.registry.hive import Hive, open_hive
from vmount.parsers.registry.value import Value

__all__ = ["Hive", "Value", "open_hive"]
