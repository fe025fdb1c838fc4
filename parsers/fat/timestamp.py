"""Date and time as DOS keeps them: years from 1980 on, seconds by two, no time zone.

Source: the specification, section "Date and Time Formats"; exFAT has the same bits in its 7.4.8.
"""

from __future__ import annotations

import datetime
from functools import lru_cache

_EPOCH = datetime.date(1970, 1, 1).toordinal()
_MAX_CENTISECONDS = 199


def decode_time(date: int, time: int, centiseconds: int = 0, utc_offset: int = 0) -> int:
    """Return nanoseconds since 1970, 0 for what is no date.

    `centiseconds` (0 to 199) refines the two seconds; `utc_offset` is what local time is ahead
    of UTC, in minutes.
    """
    day = _day(date)
    hours, minutes, seconds = time >> 11, time >> 5 & 63, (time & 31) * 2
    if day is None or hours > 23 or minutes > 59 or seconds > 59:
        return 0
    total = ((day * 24 + hours) * 60 + minutes - utc_offset) * 60 + seconds
    return total * 10**9 + min(centiseconds, _MAX_CENTISECONDS) * 10**7


@lru_cache(4096)
def _day(date: int) -> int | None:
    """Return days since 1970."""
    try:
        return datetime.date(1980 + (date >> 9), date >> 5 & 15, date & 31).toordinal() - _EPOCH
    except ValueError:
        return None
