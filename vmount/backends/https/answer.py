"""What an answer to a ranged GET has to say, checked. Knows no sockets.

Source: RFC 9110, sections 14 (range requests) and 10.2.3 (Retry-After).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_CONTENT_RANGE = re.compile(r"bytes +(\d{1,19})-(\d{1,19})/(\d{1,19})")
_UNSATISFIED = re.compile(r"bytes +\*/(\d{1,19})")


class ContentRange(NamedTuple):
    """The range that a 206 brings. `last` is its last byte, as in the header."""

    first: int
    last: int
    total: int


class Version(NamedTuple):
    """What tells one state of a file from another; an empty field where the server is silent."""

    size: int
    etag: str
    modified: str


def content_range(text: str) -> ContentRange | None:
    """Parse a Content-Range with a known total; None if it is anything else."""
    matched = _CONTENT_RANGE.fullmatch(text.strip())
    if matched is None:
        return None
    found = ContentRange(*map(int, matched.groups()))
    return found if found.first <= found.last < found.total else None


def unsatisfied_total(text: str) -> int | None:
    """Return the size that a 416 tells, if it does."""
    matched = _UNSATISFIED.fullmatch(text.strip())
    return None if matched is None else int(matched[1])


def version_of(headers: Mapping[str, str], size: int) -> Version:
    """Return the version that an answer's headers tell; names of `headers` in lower case."""
    return Version(size, headers.get("etag", ""), headers.get("last-modified", ""))


def retry_after(text: str) -> float:
    """Return the seconds of a Retry-After; 0 for a date or nonsense."""
    return float(text) if re.fullmatch(r"\d{1,6}", text) else 0.0
