"""What a walker found damaged and could do without: a line in the log, once for each thing.

An error costs the object that has it. Damage beside an object's bytes costs nothing, and must not pass in
silence either.
"""

from __future__ import annotations

import logging

MOST_NOTES = 1000
"""Of one volume: a volume that is damaged throughout must not fill the log."""

log = logging.getLogger(__name__)


class Notes:
    """Logs each thing once. `volume` is what the lines begin with."""

    def __init__(self, volume: str) -> None:
        self._volume = volume
        self._told: set[str] = set()

    def add(self, what: str) -> None:
        """Log a sentence unless it was logged before."""
        if what in self._told or len(self._told) > MOST_NOTES:
            return
        self._told.add(what)
        if len(self._told) > MOST_NOTES:
            log.warning("%s: more damage than is logged", self._volume)
        else:
            log.warning("%s: %s", self._volume, what)
