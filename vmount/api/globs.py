"""Patterns of names and paths, as a shell has them, matched as the guest's system would.

`*` and `?` stand for characters of a name, `[a-z]` and `[!a-z]` for one of several, `**` for any number
of directories. A file system that does not tell cases apart has them match without regard to case.
"""

from __future__ import annotations

import re
from functools import lru_cache

SPECIAL = re.compile(r"[*?\[]")


def is_pattern(text: str) -> bool:
    """Say whether a text stands for more than itself."""
    return SPECIAL.search(text) is not None


@lru_cache(maxsize=256)
def compile_glob(pattern: str, *, ignore_case: bool) -> re.Pattern[str]:
    """Return the regular expression that a whole name or path has to match."""
    found, position = [], 0
    while position < len(pattern):
        char = pattern[position]
        if pattern.startswith("**/", position):
            found.append("(?:[^/]+/)*")
            position += 3
            continue
        if pattern.startswith("**", position):
            found.append(".*")
            position += 2
            continue
        end = _end_of_class(pattern, position) if char == "[" else 0
        if char == "*":
            found.append("[^/]*")
        elif char == "?":
            found.append("[^/]")
        elif end:
            inner = pattern[position + 1 : end].replace("\\", r"\\").replace("[", r"\[")
            negated = inner[0] in "!^"
            found.append(f"(?!/)[{'^' if negated else ''}{inner[1:] if negated else inner}]")
            position = end
        else:
            found.append(re.escape(char))
        position += 1
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    try:
        return re.compile("".join(found), flags)
    except re.error:
        return re.compile(re.escape(pattern), flags)


def _end_of_class(pattern: str, start: int) -> int:
    """Return where a bracket is closed; 0 if it is not, and stands for itself."""
    first = start + 1
    if pattern[first : first + 1] in {"!", "^"}:
        first += 1
    return max(0, pattern.find("]", first + 1))
