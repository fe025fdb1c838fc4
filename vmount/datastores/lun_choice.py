"""Which devices of this machine may be read as LUNs of datastores."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vmount.backends.device_identity import BlockDevice, BlockDevices, distinct
from vmount.errors import UsageError, explain


@dataclass(frozen=True)
class LunChoice:
    """Which devices may be read as LUNs."""

    given: tuple[str, ...] = ()
    """Paths. Empty: all devices are looked at."""
    allow: tuple[str, ...] = ()
    """Shell patterns for what a device is called: its path, the names of links to it, its WWN. Empty: all."""
    deny: tuple[str, ...] = ()
    """Patterns of devices that are never opened. They prevail."""
    devices: BlockDevices = field(default_factory=BlockDevices)

    def candidates(self) -> list[BlockDevice]:
        """Return the devices to look at, each once. Raises UsageError for a given one that is denied or
        is not there."""
        if not self.given:
            return [device for device in self.devices.all() if self._is_wanted(device)]
        found = []
        for name in self.given:
            try:
                device = self.devices.device(Path(name))
            except OSError as error:
                raise UsageError(f"{name}: {explain(error)}") from error
            if not self._is_wanted(device):
                raise UsageError(f"{name}: excluded by the option lun-allow or lun-deny")
            found.append(device)
        return distinct(found)

    def _is_wanted(self, device: BlockDevice) -> bool:
        if self.deny and device.matches(self.deny):
            return False
        return not self.allow or device.matches(self.allow)
